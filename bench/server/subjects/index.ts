/**
 * Every subject by name; each is loaded only in the process that measures it.
 */
import type { SubjectName } from "../../lib/types.ts"
import type { Open } from "../subject.ts"

export const openers: Readonly<Record<SubjectName, () => Promise<Open>>> = {
  "effect-realtime": async () => (await import("./realtime.ts")).openDirect,
  "effect-realtime-seen": async () => (await import("./realtime.ts")).openSeen,
  "effect-realtime-route": async () => (await import("./realtime.ts")).openRoute,
  "effect-realtime-durable": async () => (await import("./realtime.ts")).openDurable,
  "effect-realtime-both": async () => (await import("./realtime.ts")).openBoth,
  "effect-realtime-table": async () => (await import("./realtime.ts")).openTable,
  ws: async () => (await import("./ws.ts")).openLoop,
  floor: async () => (await import("./ws.ts")).openFloor,
  "socket.io": async () => (await import("./socketio.ts")).open,
  "effect-rpc": async () => (await import("./effect.ts")).openRpc,
  "effect-stream": async () => (await import("./effect.ts")).openStream,
  "nats-server": async () => (await import("./brokers.ts")).openNats,
  mosquitto: async () => (await import("./brokers.ts")).openMosquitto,
  "ws+pg-listen": async () => (await import("./pgListen.ts")).open
}
