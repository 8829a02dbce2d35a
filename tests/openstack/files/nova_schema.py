"""Makes the tables of Nova's three databases and its cells.

nova-manage spends seconds of each call on imports, and parses its arguments once in a process:
so it is imported once here, and each step runs in a fork.
"""

import os
import sys

from nova.cmd import manage

CONFIG, DATABASES, CELL0 = sys.argv[1:4]
EXISTS_ALREADY = 2


def step(*words, allowed=(0,)):
    pid = os.fork()
    if pid == 0:
        sys.argv = ['nova-manage', '--config-file', CONFIG, '--config-file', DATABASES, *words]
        code = 1
        try:
            code = manage.main() or 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code not in allowed:
        sys.exit('nova-manage %s failed with %s' % (' '.join(words), code))


step('api_db', 'sync')
step('cell_v2', 'map_cell0', '--database_connection', CELL0)
step('db', 'sync')
step('cell_v2', 'create_cell', '--name', 'cell1', allowed=(0, EXISTS_ALREADY))
