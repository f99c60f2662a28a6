"""Follows one channel and prints what happens, one line each:

    python3 -u client.py ws://127.0.0.1:3000/realtime table_updates_orders

With a filter as a third argument it follows a table with its state; {} is all rows:

    python3 -u client.py ws://127.0.0.1:3000/realtime table_updates_orders '{"status": ["new"]}'

Several nodes are several addresses with a comma in between; it takes them in an order of its own.

On a presence channel it prints the members whenever they change. With REALTIME_PRESENT='{"name": "ann"}' it
is one of them, with this state.

With REALTIME_HISTORY=20 it first asks for the 20 events before.

The protocol is in src/PROTOCOL.md. Needs websockets 10.4 or newer."""
import asyncio, json, os, random, sys
import websockets

OPTIONS = {"subprotocols": ["effect-realtime.v1"], "ping_interval": None, "close_timeout": 1, "max_size": None}
LOST = 1006
WHERE = json.loads(sys.argv[3]) if len(sys.argv) > 3 else None
STATE = WHERE is not None
HISTORY = int(os.environ.get("REALTIME_HISTORY", "0"))
PRESENT = json.loads(os.environ.get("REALTIME_PRESENT", "null"))
members = {}  # their states, by the name that each has while it is here
seen = set()  # with REALTIME_HISTORY, because an event may be in the page and arrive too
cursor, failures, refused, reconnect_after = None, 0, 0, None
due = STATE  # a state is missing, so the client must not resume


def token():
    return os.environ.get("REALTIME_TOKEN")  # called before each socket: return a fresh token here


def is_cut(data):
    return isinstance(data, dict) and data.get("truncated") and data["operation"] != "DELETE"


def changed(frame):
    if frame.get("whole"):  # in the place of all that is known
        members.clear()
    members.update(frame.get("set", {}))
    for name in frame.get("gone", []):
        members.pop(name, None)
    named = len(members) == frame["count"]  # of too many members only the count is told, and the own state
    print("members", frame["count"], json.dumps(list(members.values())) if named else "")


def is_new(event):
    known = event["id"] in seen
    if HISTORY:
        seen.add(event["id"])
    return not known


async def session(url, channel):
    """One socket. Returns its close code; 0 when the server rejects the subscription for good."""
    global cursor, due, failures, refused, reconnect_after
    async with websockets.connect(url, **OPTIONS) as socket:
        send = lambda **frame: socket.send(json.dumps({k: v for k, v in frame.items() if v is not None}))
        patience = 10
        await send(type="hello", version=1, token=token())
        while True:
            message = await asyncio.wait_for(socket.recv(), patience)
            for frame in map(json.loads, message.split("\n")):
                kind = frame["type"]
                if kind == "welcome":
                    failures, refused, patience = 0, 0, (frame["ping"] + frame["slack"]) / 1000
                    await send(type="subscribe", id=1, channel=channel, cursor=None if due else cursor, state=STATE, where=WHERE)
                elif kind == "ping":
                    await send(type="pong")
                elif kind == "subscribed":
                    print("subscribed", frame["state"])  # after a reset, read the state again
                    due = STATE and frame["state"] != "recovered"
                    if PRESENT is not None:  # again on each socket: within 10 s the others see no change
                        await send(type="present", id=3, channel=channel, member=PRESENT)
                    if HISTORY and cursor is None:  # subscribed first, so no event is missing in between
                        await send(type="history", id=2, channel=channel, limit=HISTORY)
                elif kind == "history":
                    for event in frame["events"]:
                        if is_new(event):
                            print("before", json.dumps(event["data"]))
                elif kind == "state":
                    for row in frame["rows"]:
                        print("row", json.dumps(row))
                    due = frame["more"]
                elif kind == "gap":
                    print("gap", frame["reason"])  # read the state again, or wait for it
                    due = due if "change" in frame else STATE  # a change is one row
                elif kind == "events":  # the state follows a row that is too large to travel
                    due = due or STATE and any(is_cut(event["data"]) for event in frame["events"])
                    for event in frame["events"]:
                        if is_new(event):
                            print("event", json.dumps(event["data"]))
                elif kind == "members":
                    changed(frame)
                elif kind == "bye":
                    reconnect_after = frame["reconnectAfter"] / 1000
                elif kind in ("error", "ended"):
                    print(kind, frame["code"], frame["message"])
                    if kind == "ended" or "id" in frame:  # without an id, a close follows
                        reconnect_after = frame.get("retryAfter", 1000) / 1000
                        return 0 if frame["retry"] == "never" else LOST
                cursor = frame.get("cursor", cursor)  # all earlier events are handled


async def follow(urls, channel):
    global failures, refused, reconnect_after
    urls = random.sample(urls, len(urls))  # so that clients spread over the nodes
    while True:
        try:
            code = await session(urls[0], channel)
        except websockets.ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else LOST
        except (OSError, asyncio.TimeoutError, websockets.WebSocketException):
            code = LOST  # no socket, or no frame for too long
        failures, refused = failures + 1, refused + 1 if code // 100 == 41 else 0
        if code == 0 or code // 100 == 42 or code == 1009 or refused == 3:
            return print("stopped", code)
        jitter = random.uniform(0, 2 ** min(failures, 5))
        wait, reconnect_after = jitter if reconnect_after is None else reconnect_after, None
        if code == 4000 or failures % 2 == 0:  # the node closes, or two failures in a row
            urls.append(urls.pop(0))
            wait = 0 if code == 4000 and len(urls) > 1 else wait
        print("waiting", code)
        await asyncio.sleep(wait)


asyncio.run(follow(sys.argv[1].split(","), sys.argv[2]))
