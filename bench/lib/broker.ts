/**
 * Starts a broker on free ports of this machine.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"

export interface Broker extends AsyncDisposable {
  readonly tcp: number
  readonly webSocket: number
  readonly process: ChildProcess
}

const freePort = async (): Promise<number> => {
  const server = Net.createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as Net.AddressInfo
  server.close()
  await once(server, "close")
  return port
}

const patienceMillis = 5000

/** Connects as soon as the broker listens. */
export const dial = async (port: number, since = Date.now()): Promise<Net.Socket> => {
  const socket = Net.connect({ port, host: "127.0.0.1", noDelay: true })
  try {
    await once(socket, "connect")
    return socket
  } catch (error) {
    if (Date.now() - since > patienceMillis) throw error
    await new Promise((resolve) => setTimeout(resolve, 50))
    return dial(port, since)
  }
}

/** Completes when it listens. */
export const startBroker = async (
  command: string,
  config: (tcp: number, webSocket: number) => string
): Promise<Broker> => {
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "bench-"))
  const [tcp, webSocket] = [await freePort(), await freePort()]
  const file = Path.join(folder, "config")
  Fs.writeFileSync(file, config(tcp, webSocket))
  const broker = spawn(command, ["-c", file], { stdio: "ignore" })
  const remove = () => {
    broker.kill()
    Fs.rmSync(folder, { recursive: true, force: true })
  }
  // A driver that ends does not ask first.
  process.once("exit", remove)
  ;(await dial(tcp)).destroy()
  return {
    tcp,
    webSocket,
    process: broker,
    [Symbol.asyncDispose]: async () => {
      process.off("exit", remove)
      const gone = once(broker, "exit")
      remove()
      await gone
    }
  }
}

export const natsConfig = (tcp: number, webSocket: number): string =>
  `listen: "127.0.0.1:${tcp}"\nwebsocket { listen: "127.0.0.1:${webSocket}", no_tls: true }\n`
