/**
 * As little of PostgreSQL's protocol as a writer needs, so that PostgreSQL is what is measured: one
 * socket, one statement at a time, and of the answers only that the server is ready for the next
 * one.
 *
 * It knows the servers that this benchmark starts: a unix socket, without a password.
 */
import * as Net from "node:net"

const strings = (...texts: ReadonlyArray<string>): Buffer =>
  Buffer.from(texts.map((text) => `${text}\0`).join(""))

const int16 = (...values: ReadonlyArray<number>): Buffer => {
  const buffer = Buffer.alloc(2 * values.length)
  values.forEach((value, index) => buffer.writeInt16BE(value, 2 * index))
  return buffer
}

const int32 = (value: number): Buffer => {
  const buffer = Buffer.alloc(4)
  buffer.writeInt32BE(value)
  return buffer
}

const message = (type: string, ...parts: ReadonlyArray<Buffer>): Buffer => {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}

/** Runs a prepared statement once, in a transaction of its own. */
const execution = (name: string, values: ReadonlyArray<string>): Buffer => {
  const parameters = values.flatMap((value) => {
    const bytes = Buffer.from(value)
    return [int32(bytes.length), bytes]
  })
  return Buffer.concat([
    message("B", strings("", name), int16(0, values.length), ...parameters, int16(0)),
    message("E", strings(""), int32(0)),
    message("S")
  ])
}

const protocolVersion = 196_608
const readyForQuery = "Z".charCodeAt(0)
const backendKeyData = "K".charCodeAt(0)
const errorResponse = "E".charCodeAt(0)

export class PgWire {
  readonly #socket: Net.Socket
  #held: Buffer = Buffer.alloc(0)
  #answer: ((error: Error | undefined) => void) | undefined
  #error: Error | undefined
  #prepared = 0
  #pid = 0

  private constructor(socket: Net.Socket) {
    this.#socket = socket
    socket.on("data", (chunk) => this.#receive(chunk))
    socket.on("error", (error) => this.#ready(error))
    socket.on("close", () => this.#ready(new Error("the session has ended")))
  }

  static async connect(databaseUrl: string): Promise<PgWire> {
    const url = new URL(databaseUrl)
    const socket = Net.connect({ path: `${decodeURIComponent(url.hostname)}/.s.PGSQL.5432` })
    const wire = new PgWire(socket)
    const [user, database] = [url.username, url.pathname.slice(1)]
    await wire.#send(
      message("", int32(protocolVersion), strings("user", user, "database", database, ""))
    )
    return wire
  }

  /** The process id of the server's process for this session. */
  get pid(): number {
    return this.#pid
  }

  /** Runs one statement, or several at once. */
  query(sql: string): Promise<void> {
    return this.#send(message("Q", strings(sql)))
  }

  /**
   * Prepares a statement without parameters, and returns a function that runs it once more: `done`
   * is called when it is committed.
   */
  async prepare(sql: string): Promise<(done: (error: Error | undefined) => void) => void> {
    const run = execution(await this.#parse(sql), [])
    return (done) => {
      this.#answer = done
      this.#socket.write(run)
    }
  }

  /**
   * Prepares a statement, and returns a function that runs it with parameters: it completes at the
   * commit.
   */
  async statement(sql: string): Promise<(...values: ReadonlyArray<string>) => Promise<void>> {
    const name = await this.#parse(sql)
    return (...values) => this.#send(execution(name, values))
  }

  async #parse(sql: string): Promise<string> {
    const name = `again_${this.#prepared++}`
    await this.#send(Buffer.concat([message("P", strings(name, sql), int16(0)), message("S")]))
    return name
  }

  close(): void {
    this.#socket.destroy()
  }

  #send(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#answer = (error) => (error === undefined ? resolve() : reject(error))
      this.#socket.write(bytes)
    })
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    let at = 0
    while (bytes.length - at >= 5) {
      const end = at + 1 + bytes.readInt32BE(at + 1)
      if (bytes.length < end) break
      const type = bytes[at]
      if (type === backendKeyData) this.#pid = bytes.readInt32BE(at + 5)
      if (type === errorResponse) this.#error = new Error(bytes.toString("utf8", at + 5, end))
      if (type === readyForQuery) this.#ready(this.#error)
      at = end
    }
    this.#held = bytes.subarray(at)
  }

  #ready(error: Error | undefined): void {
    const answer = this.#answer
    this.#answer = undefined
    this.#error = undefined
    answer?.(error)
  }
}
