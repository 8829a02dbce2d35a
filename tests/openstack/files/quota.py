"""Sets the number of VMs that the project demo may have, and prints it.

With force, because Nova otherwise refuses a limit below what is used, and to be over the limit is
just what a test may want.
"""

import sys

import openstack

cloud = openstack.connect(cloud='ostest-admin')
project = next(cloud.identity.projects(name='demo'))
answer = cloud.compute.put('/os-quota-sets/' + project.id,
                           json={'quota_set': {'instances': int(sys.argv[1]), 'force': True}})
openstack.exceptions.raise_from_response(answer)
print('project demo: at most', answer.json()['quota_set']['instances'], 'VMs')
