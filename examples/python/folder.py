"""All frames of a folder at once, with asyncio: python folder.py FOLDER"""

import asyncio
import sys
from pathlib import Path

from appliance.client import AsyncClient, NoReply, Result


async def show(client: AsyncClient, path: Path) -> None:
    """Prints a line on a frame as soon as it is answered."""
    try:
        reply = await client.infer(path, timeout_s=30)
    except NoReply as error:
        print(f"{path.name}: {error}")
        return
    if isinstance(reply, Result):
        print(f"{path.name}: {reply.label}, {reply.confidence:.0%} sure at exit {reply.exit}")
    else:
        print(f"{path.name}: {reply.code} {reply.reason}, {reply.detail}")


async def main(paths: list[Path]) -> None:
    """Has as many on their way as the client allows, and the rest wait for their turn."""
    async with AsyncClient.from_settings(tenant="gate", max_in_flight=16) as client:
        await asyncio.gather(*(show(client, path) for path in paths))


asyncio.run(main(sorted(Path(sys.argv[1]).iterdir())))
