"""Small jobs of package ironic, one per first argument; see ironic.go.

They run with the interpreter that Ironic's own packages use, in the network
namespace that Ironic is in.
"""
import base64
import json
import os
import sqlite3
import sys
import time
import urllib.request


def wal(path):
    """Write-ahead logging stays in the file: readers do not block the writer."""
    db = sqlite3.connect(path)
    db.execute('PRAGMA journal_mode=WAL')
    db.close()


def htpasswd(path, user):
    """Write one bcrypt entry; the password comes on standard input."""
    import bcrypt
    hashed = bcrypt.hashpw(sys.stdin.read().encode(), bcrypt.gensalt(4)).decode()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as f:
        f.write('%s:%s\n' % (user, hashed))


def offline(path):
    """Forget a conductor that was killed: its row looks alive for a minute."""
    db = sqlite3.connect(path, timeout=30)
    db.execute('UPDATE conductors SET online = 0')
    db.commit()
    db.close()


def ready(url, user):
    """Wait until a conductor shows up in the API's list of drivers.

    The password comes on standard input. Whoever started us ends us when it
    has waited for long enough.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {}
    if user:
        token = base64.b64encode(('%s:%s' % (user, sys.stdin.read())).encode()).decode()
        headers['Authorization'] = 'Basic ' + token
    while True:
        try:
            request = urllib.request.Request(url + '/v1/drivers', headers=headers)
            with opener.open(request, timeout=10) as answer:
                if any(d['hosts'] for d in json.load(answer)['drivers']):
                    return
        except (OSError, ValueError):
            pass
        time.sleep(0.1)


JOBS = {'wal': wal, 'htpasswd': htpasswd, 'offline': offline, 'ready': ready}
JOBS[sys.argv[1]](*sys.argv[2:])
