"""Fills the new cloud: accounts, catalog, then flavors, images and networks.

Idempotent, so that an up.sh that was broken off can be run again. The file named by the third
argument appears as soon as the accounts are there: the daemons that log in wait for it.
"""

import io
import pathlib
import sys
import time
import urllib.error
import urllib.request

import openstack

SERVICE_PASSWORD, MEMBER_PASSWORD, ACCOUNTS_THERE = sys.argv[1:4]

CATALOG = (('nova', 'compute', 'http://127.0.0.1:8774/v2.1'),
           ('placement', 'placement', 'http://127.0.0.1:8778'),
           ('glance', 'image', 'http://127.0.0.1:9292'),
           ('neutron', 'network', 'http://127.0.0.1:9696'))

# name: cores, MiB of memory, GiB of disk, extra specs
FLAVORS = {
    'm1.tiny': (1, 512, 1, {}),
    'm1.small': (1, 2048, 20, {}),
    'm1.medium': (2, 4096, 40, {}),
    'm1.large': (4, 8192, 80, {}),
    # Fits on no host: "No valid host was found".
    'no.such.host': (4000, 4000000, 1, {}),
    # Stays in BUILD for a while.
    'slow.build': (1, 512, 1, {'fleet-test:spawn-seconds': '5'}),
    # The hypervisor refuses it.
    'broken.build': (1, 512, 1, {'fleet-test:spawn-fault': 'the hypervisor refused'}),
}


def first(found):
    return next(iter(found), None)


def accounts(identity):
    roles = {role.name: role for role in identity.roles()}

    def account(name, password, project_name, role_names):
        project = first(identity.projects(name=project_name)) or identity.create_project(
            name=project_name, domain_id='default')
        user = first(identity.users(name=name)) or identity.create_user(
            name=name, password=password, domain_id='default', default_project_id=project.id)
        for role in role_names:
            identity.assign_project_role_to_user(project, user, roles[role])

    account('svc', SERVICE_PASSWORD, 'service', ['admin', 'service'])
    account('demo', MEMBER_PASSWORD, 'demo', ['member', 'reader'])

    services = {service.name: service for service in identity.services()}
    there = {(endpoint.service_id, endpoint.interface) for endpoint in identity.endpoints()}
    for name, kind, url in CATALOG:
        service = services.get(name) or identity.create_service(name=name, type=kind)
        for interface in ('public', 'internal', 'admin'):
            if (service.id, interface) not in there:
                identity.create_endpoint(service_id=service.id, interface=interface, url=url,
                                         region_id='RegionOne')


def wait_for_api(url):
    root = '/'.join(url.split('/')[:3]) + '/'
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(root, timeout=20)
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
            continue
        return


def flavors(compute):
    there = {flavor.name for flavor in compute.flavors(is_public=None)}
    for number, (name, (cores, memory, disk, specs)) in enumerate(FLAVORS.items(), 1):
        if name not in there:
            flavor = compute.create_flavor(id=str(number), name=name, vcpus=cores, ram=memory, disk=disk)
            if specs:
                compute.create_flavor_extra_specs(flavor, specs)


def images(image):
    for name, properties in (('debian-12', {'os_distro': 'debian', 'os_version': '12'}), ('cirros', {})):
        if not first(image.images(name=name)):
            image.create_image(name=name, disk_format='raw', container_format='bare',
                               visibility='public', min_disk=1,
                               data=io.BytesIO(name.encode() + bytes(1 << 20)), **properties)


def networks(network, project):
    def made(name, cidr, dhcp=True, owner=None, which=0, **options):
        owned = {'project_id': owner} if owner else {}
        there = sorted(network.networks(name=name), key=lambda net: net.created_at)
        net = there[which] if which < len(there) else network.create_network(name=name, **options, **owned)
        subnet = first(network.subnets(network_id=net.id)) or network.create_subnet(
            network_id=net.id, name=name + '-subnet', ip_version=4, cidr=cidr, is_dhcp_enabled=dhcp, **owned)
        return net, subnet

    public, _ = made('public', '172.24.0.0/20', dhcp=False, is_router_external=True, is_shared=False,
                     provider_network_type='flat', provider_physical_network='public')
    made('shared-net', '10.20.0.0/16', is_shared=True)
    for which in (0, 1):  # a name that does not say which one is meant
        made('twin-net', '10.3%d.0.0/16' % which, which=which, is_shared=True)
    _, subnet = made('demo-net', '10.10.0.0/16', owner=project, is_shared=False)
    if not first(network.routers(name='demo-router')):
        router = network.create_router(name='demo-router', project_id=project,
                                       external_gateway_info={'network_id': public.id})
        network.add_interface_to_router(router, subnet_id=subnet.id)


accounts(openstack.connect(cloud='ostest-admin').identity)
pathlib.Path(ACCOUNTS_THERE).touch()
# A connection keeps the catalog of its token: a new one sees the endpoints.
cloud = openstack.connect(cloud='ostest-admin')
for _, _, url in CATALOG:
    wait_for_api(url)
flavors(cloud.compute)
images(cloud.image)
networks(cloud.network, first(cloud.identity.projects(name='demo')).id)
