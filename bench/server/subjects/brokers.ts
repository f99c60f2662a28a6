/**
 * Brokers that have WebSockets by themselves, when they are installed. They are programs of their
 * own: this process only publishes to them, over TCP, and reads their cost from the system.
 */
import type { ChildProcess } from "node:child_process"
import * as Fs from "node:fs"
import { dial, natsConfig, startBroker } from "../../lib/broker.ts"
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
  config: natsConfig,
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
    const broker = await startBroker(command, config)
    const publisher = await dial(broker.tcp)
    publisher.on("error", () => undefined)
    publisher.on("data", (data) => {
      if (data.includes("PING")) publisher.write("PONG\r\n")
    })
    publisher.write(greeting)
    ;(await dial(broker.webSocket)).destroy()
    return {
      port: broker.webSocket,
      publish: (channel, text) => publisher.write(publication(channel, text)),
      usage: usageOf(broker.process),
      [Symbol.asyncDispose]: async () => {
        publisher.destroy()
        await broker[Symbol.asyncDispose]()
      }
    }
  }

export const openNats: Open = open(nats)
export const openMosquitto: Open = open(mosquitto)
