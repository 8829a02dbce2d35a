"""Nova's own fake hypervisor (1000 cores, 800 GB), made fit for tests that restart things.

The stock driver invents a new node id at each start, and nova-compute then refuses to go on. This
one keeps the id that nova-compute wrote to its state folder.

Two extra specs of a flavor make VMs that a test needs and an ordinary user can ask for:
`fleet-test:spawn-seconds` (stays in BUILD for so long) and `fleet-test:spawn-fault` (fails with
that text; Nova looks for another host, finds none, and the VM ends in ERROR).
"""

import time

import nova.virt.node
from nova.virt import fake


class Driver(fake.FakeDriver):

    def get_nodenames_by_uuid(self, refresh=False):
        return {nova.virt.node.get_local_node_uuid(): self.get_available_nodes()[0]}

    def get_available_resource(self, nodename):
        resource = super().get_available_resource(nodename)
        resource['uuid'] = nova.virt.node.get_local_node_uuid()
        return resource

    def spawn(self, context, instance, *args, **kwargs):
        wanted = instance.flavor.extra_specs
        time.sleep(float(wanted.get('fleet-test:spawn-seconds', 0)))
        if 'fleet-test:spawn-fault' in wanted:
            raise RuntimeError(wanted['fleet-test:spawn-fault'])
        return super().spawn(context, instance, *args, **kwargs)
