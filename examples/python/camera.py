"""A network camera's picture every second: python camera.py http://camera.local/snapshot.jpg"""

import sys
import time
from urllib.request import urlopen

from appliance.client import Client

with Client.from_settings(tenant="gate") as client:
    while True:
        with urlopen(sys.argv[1], timeout=10) as picture:
            print(client.infer(picture.read(), stream="camera"), flush=True)
        time.sleep(1)
