"""A client of Proxmox Backup Server, as its users write them.

It asks for what it is told on its standard input, one request in JSON on a line:
[METHOD, [PART OF THE PATH...], {PARAMETER: VALUE...}], and prints a line for each: the
data of the answer, or how the library reports the failure.
"""

import json
import os
import sys

from proxmoxer import ProxmoxAPI, ResourceException

backup = ProxmoxAPI(
    os.environ["HOST"],
    service="PBS",
    user=os.environ["TOKEN_USER"],
    token_name=os.environ["TOKEN_NAME"],
    token_value=os.environ["TOKEN_VALUE"],
    verify_ssl=os.environ["CERTIFICATE"],
)

for line in sys.stdin:
    method, parts, parameters = json.loads(line)
    try:
        answer = {"data": getattr(backup(parts), method)(**parameters)}
    except ResourceException as refusal:
        answer = {"status": refusal.status_code, "text": str(refusal)}
    print(json.dumps(answer), flush=True)
