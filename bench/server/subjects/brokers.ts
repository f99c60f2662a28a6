/**
 * Brokers that have WebSockets by themselves, when they are installed. They are programs of their
 * own: this process only publishes to them, over TCP, and reads their cost from the system.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Mqtt from "../../lib/mqtt.ts"
import type { Open, Subject } from "../subject.ts"

interface Broker {
  readonly command: string
  readonly config: (tcp: number, webSocket: number) => string
  /** What the publisher sends when it is connected, and how it publishes. */
  readonly greeting: Buffer
  readonly publication: (channel: string, text: string) => Buffer
}

const nats: Broker = {
  command: "nats-server",
  config: (tcp, webSocket) =>
    `listen: "127.0.0.1:${tcp}"\nwebsocket { listen: "127.0.0.1:${webSocket}", no_tls: true }\n`,
  greeting: Buffer.from('CONNECT {"verbose":false,"pedantic":false}\r\n'),
  publication: (channel, text) => Buffer.from(`PUB ${channel} ${text.length}\r\n${text}\r\n`)
}

const mosquitto: Broker = {
  command: "mosquitto",
  config: (tcp, webSocket) =>
    `allow_anonymous true\nlistener ${tcp} 127.0.0.1\nlistener ${webSocket} 127.0.0.1\nprotocol websockets\n`,
  greeting: Mqtt.connect("publisher"),
  publication: Mqtt.publish
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
const dial = async (port: number, since = Date.now()): Promise<Net.Socket> => {
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

/** The system counts in ticks of 10 ms. */
const microsPerTick = 10_000
const pageBytes = 4096

const usageOf = ({ pid }: ChildProcess): NonNullable<Subject["usage"]> => ({
  cpu: () => {
    const fields = Fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")
    return { user: Number(fields[11]) * microsPerTick, system: Number(fields[12]) * microsPerTick }
  },
  rss: () => Number(Fs.readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]) * pageBytes
})

const open =
  ({ command, config, greeting, publication }: Broker): Open =>
  async () => {
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
    const publisher = await dial(tcp)
    publisher.on("error", () => undefined)
    publisher.on("data", (data) => {
      if (data.includes("PING")) publisher.write("PONG\r\n")
    })
    publisher.write(greeting)
    ;(await dial(webSocket)).destroy()
    return {
      port: webSocket,
      publish: (channel, text) => publisher.write(publication(channel, text)),
      usage: usageOf(broker),
      [Symbol.asyncDispose]: async () => {
        publisher.destroy()
        process.off("exit", remove)
        const gone = once(broker, "exit")
        remove()
        await gone
      }
    }
  }

export const openNats: Open = open(nats)
export const openMosquitto: Open = open(mosquitto)
