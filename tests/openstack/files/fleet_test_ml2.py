"""A Neutron mechanism driver that says that every port is wired.

A real one waits for an agent on the compute host to plug the port. There is no host here, so each
port is bound and ACTIVE at once, and each floating address that has a port is ACTIVE soon.
"""

import threading
import time

from neutron_lib import constants
from neutron_lib import context as neutron_context
from neutron_lib.api.definitions import portbindings
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.plugins import constants as plugin_constants
from neutron_lib.plugins import directory
from neutron_lib.plugins.ml2 import api


class AlwaysBind(api.MechanismDriver):

    def initialize(self):
        registry.subscribe(self._changed, resources.FLOATING_IP, events.AFTER_CREATE)
        registry.subscribe(self._changed, resources.FLOATING_IP, events.AFTER_UPDATE)

    @property
    def connectivity(self):
        return portbindings.CONNECTIVITY_L2

    def bind_port(self, context):
        segment = context.segments_to_bind[0]
        details = {portbindings.CAP_PORT_FILTER: True, portbindings.OVS_HYBRID_PLUG: False,
                   'bridge_name': 'br-int', 'datapath_type': 'system'}
        context.set_binding(segment[api.ID], portbindings.VIF_TYPE_OVS, details,
                            status=constants.PORT_STATUS_ACTIVE)

    def _changed(self, resource, event, trigger, payload=None):
        # The caller may hold a transaction on the very row (a port's deletion does): reporting from
        # here would wait 50 s for a lock that the waiting itself keeps closed.
        if payload.resource_id:
            threading.Thread(target=self._report, args=(payload.resource_id,), daemon=True).start()

    def _report(self, floating_ip):
        l3 = directory.get_plugin(plugin_constants.L3)
        for delay in (0.3, 1, 3):
            time.sleep(delay)
            context = neutron_context.get_admin_context()
            try:
                wired = l3.get_floatingip(context, floating_ip)['port_id']
                l3.update_floatingip_status(
                    context, floating_ip,
                    constants.FLOATINGIP_STATUS_ACTIVE if wired else constants.FLOATINGIP_STATUS_DOWN)
                return
            except Exception:  # deleted meanwhile, or the row is locked: the next try sees
                pass
