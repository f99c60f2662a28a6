/** One node of the cluster: the live board, which ends with the process that started it. */
process.stdin.on("end", () => process.kill(process.pid, "SIGTERM")).resume()
await import("../live-board/server.ts")
