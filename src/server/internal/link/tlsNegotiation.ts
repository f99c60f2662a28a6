/**
 * A socket to PostgreSQL that negotiates TLS by the rules of libpq: `prefer` tries TLS first, `allow` plain
 * text first, and each tries the other when the server refuses.
 *
 * The driver cannot do this: it verifies the certificate in these modes and tries only one way. It writes
 * into this stream as into a plain socket, and the way is chosen before it receives a byte.
 */
import * as Net from "node:net"
import { Duplex } from "node:stream"
import * as Tls from "node:tls"

type Way = "plain" | "tls"

/** The request for TLS of PostgreSQL's protocol. */
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])

const letter = { yes: 0x53, no: 0x4e, error: 0x45 }

export interface NegotiatedOptions {
  readonly mode: "allow" | "prefer"
  readonly connect: () => Net.Socket
  readonly tls: Tls.ConnectionOptions
}

export class Negotiated extends Duplex {
  /** Bytes received, as of a `net.Socket`. */
  bytesRead = 0
  readonly #options: NegotiatedOptions
  /** The ways not yet tried. */
  #left: Array<Way>
  /** The socket of the current way. */
  #socket: Net.Socket | undefined
  /** Whether writes go to the socket. */
  #open = false
  /** The bytes written before the server answered: the next way sends them again. */
  #written: Array<Buffer> | undefined = []

  constructor(options: NegotiatedOptions) {
    super({ allowHalfOpen: false })
    this.#options = options
    this.#left = options.mode === "prefer" ? ["tls", "plain"] : ["plain", "tls"]
    this.#next()
  }

  /** Tries the next way. */
  #next(): void {
    const way = this.#left.shift()!
    this.#open = false
    let socket: Net.Socket
    try {
      socket = this.#options.connect()
    } catch (error) {
      this.destroy(error as Error)
      return
    }
    this.#socket = socket
    socket.once("connect", () => {
      if (way === "plain") this.#use(socket)
      else this.#ask(socket)
    })
    // An error of a way that was given up must not end the process.
    socket.on("error", (error) => {
      if (this.#socket === socket) this.destroy(error)
    })
    socket.once("close", () => {
      if (this.#socket === socket) this.destroy()
    })
  }

  #instead(socket: Net.Socket): void {
    this.#next()
    socket.destroy()
  }

  #ask(socket: Net.Socket): void {
    socket.write(sslRequest)
    socket.once("data", (answer: Buffer) => {
      if (this.#socket !== socket) return
      if (answer.length === 1 && answer[0] === letter.yes) return this.#encrypt(socket)
      if (answer.length === 1 && answer[0] === letter.no && this.#left.length > 0) {
        // The same socket continues in plain text.
        this.#left = []
        return this.#use(socket)
      }
      if (this.#left.length > 0) return this.#instead(socket)
      this.destroy(new Error("The server refused plain text, and does not support TLS"))
    })
  }

  #encrypt(raw: Net.Socket): void {
    const { host } = this.#options.tls
    let secure: Tls.TLSSocket
    try {
      secure = Tls.connect({
        ...(host === undefined || Net.isIP(host) !== 0 ? {} : { servername: host }),
        ...this.#options.tls,
        socket: raw
      })
    } catch (error) {
      // A fault of a key does not depend on the way: as libpq, it ends the session.
      this.destroy(error as Error)
      return
    }
    this.#socket = secure
    let agreed = false
    secure.once("secureConnect", () => {
      agreed = true
      this.#use(secure)
    })
    secure.on("error", (error) => {
      if (this.#socket !== secure) return
      if (!agreed && this.#left.length > 0) this.#instead(secure)
      else this.destroy(error)
    })
    secure.once("close", () => {
      if (this.#socket === secure) this.destroy()
    })
  }

  /** Sends the bytes written so far on an open way; the first answer decides. */
  #use(socket: Net.Socket): void {
    this.#open = true
    for (const chunk of this.#written ?? []) socket.write(chunk)
    socket.on("data", (chunk: Buffer) => {
      if (this.#socket !== socket) return
      if (this.#written !== undefined) {
        if (chunk[0] === letter.error && this.#left.length > 0) return this.#instead(socket)
        this.#written = undefined
      }
      this.bytesRead += chunk.length
      if (!this.push(chunk)) socket.pause()
    })
    socket.once("end", () => {
      if (this.#socket === socket) this.push(null)
    })
  }

  override _read(): void {
    if (this.#open) this.#socket?.resume()
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#written?.push(chunk)
    if (this.#open) this.#socket!.write(chunk, done)
    else done()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket?.end()
    done()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const socket = this.#socket
    this.#socket = undefined
    socket?.destroy()
    done(error)
  }
}
