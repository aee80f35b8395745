"""Installs a Genropy site with the project `test_invoice` of the distribution, on SQLite.

Owns: the folder of the site: `v` (virtualenv), `home`, `projects`. Never: running processes.
"""

import os
import shutil
import subprocess
import venv

PACKAGES = ["genropy==26.10.26", "pdf2image", "watchdog", "pyotp", "qrcode"]

WSGI = """\
from gnr.web.gnrwsgisite import GnrWsgiSite
site = GnrWsgiSite('test_invoice')
def application(environ, start_response):
    return site(environ, start_response)
"""

# a chat of Genropy reaches no user with a dot in the name
USERS = """\
from gnr.app.gnrapp import GnrApp
db = GnrApp('test_invoice').db
users = db.table('adm.user')
for name in ('amelia.martin', 'james.wilson', 'emma', 'liam'):
    first, _, last = name.partition('.')
    users.insert(users.newrecord(username=name, firstname=first, lastname=last or 'brown', email=name + '@x.test',
                                 md5pwd='a', status='conf', auth_tags='user,admin,_DEV_'))
db.commit()
"""


def instance(site):
    """Returns the folder of the site's application."""
    return site / "projects/test_invoice/instances/test_invoice"


def environment(site):
    """Returns the variables of all processes of the site."""
    own = {
        "HOME": str(site / "home"),
        "GNR_LOCAL_PROJECTS": str(site / "projects"),
        "PYTHONWARNINGS": "ignore",
        "VIRTUAL_ENV": str(site / "v"),
        "PATH": f"{site / 'v/bin'}:{os.environ['PATH']}",
    }
    return {**os.environ, **own}


def package(site):
    """Returns the folder of the installed framework."""
    return next((site / "v/lib").glob("python*")) / "site-packages/gnr"


def install(site):
    """Installs the site into a new folder, with users whose password is `a`."""

    def run(*command, cwd=site, text=None):
        subprocess.run(command, cwd=cwd, env=environment(site), input=text, text=True, check=True)

    for folder in ("home", "projects"):
        (site / folder).mkdir(parents=True)
    venv.create(site / "v", with_pip=True)
    python = str(site / "v/bin/python")
    run(python, "-m", "pip", "install", "-q", *PACKAGES)
    run(str(site / "v/bin/initgenropy"))
    shutil.copytree(package(site) / "projects/test_invoice", site / "projects/test_invoice")
    # a folder with root.py is a site
    (instance(site) / "root.py").write_text(WSGI.replace("'test_invoice'", "__file__"))
    (instance(site) / "wsgi.py").write_text(WSGI)
    run(str(site / "v/bin/gnr"), "db", "setup", "test_invoice")
    data = site / "projects/test_invoice/data"
    database = str(site / "projects/test_invoice/instances/data/invc.db")
    run(python, "import_csv.py", "--db", "sqlite", "--dbpath", database, "--with-invoices", cwd=data)
    run(python, "-", text=USERS)
