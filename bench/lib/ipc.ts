/**
 * Calls between the driver and its child processes, over Node's own IPC channel.
 *
 * An API is a record of functions; both ends name the same type. Notes are words without an answer.
 */
import type { ChildProcess } from "node:child_process"

/** Every method takes one value and answers with one. */
export type Api<Methods> = {
  readonly [Name in keyof Methods]: (input: never) => unknown
}

type Input<Method> = Method extends (input: infer In) => unknown ? In : never
type Output<Method> = Method extends (input: never) => infer Out ? Awaited<Out> : never

type Message =
  | { readonly kind: "call"; readonly id: number; readonly name: string; readonly input: unknown }
  | { readonly kind: "answer"; readonly id: number; readonly value: unknown }
  | { readonly kind: "failure"; readonly id: number; readonly reason: string }
  | { readonly kind: "note"; readonly value: number }

/** In the child: answers the driver's calls. A note of the driver goes to `onNote`. */
export const serve = <Methods extends Api<Methods>>(
  methods: Methods,
  onNote: (value: number) => void = () => undefined
): void => {
  const reply = (message: Message) => {
    if (process.connected) process.send?.(message)
  }
  process.on("message", (message: Message) => {
    if (message.kind === "note") return onNote(message.value)
    if (message.kind !== "call") return undefined
    const { id, input, name } = message
    // The driver's type says that the name is one of these, and the input its own.
    const method = methods[name as keyof Methods] as unknown as (input: unknown) => unknown
    void (async () => {
      try {
        reply({ kind: "answer", id, value: (await method(input)) ?? null })
      } catch (error) {
        const reason = error instanceof Error ? (error.stack ?? error.message) : String(error)
        reply({ kind: "failure", id, reason })
      }
    })()
    return undefined
  })
  // When the driver ends, in whatever way, its children end too.
  process.on("disconnect", () => process.exit())
}

/** In the child: sends the driver a number. */
export const tell = (value: number): void => {
  // A driver that is ending needs no note.
  const ignore = () => undefined
  process.send?.({ kind: "note", value } satisfies Message, undefined, undefined, ignore)
}

export interface Remote<Methods> {
  readonly call: <Name extends keyof Methods & string>(
    name: Name,
    input: Input<Methods[Name]>
  ) => Promise<Output<Methods[Name]>>
  readonly tell: (value: number) => void
  /** Gets the notes of the child; one listener at a time. */
  onNote: ((value: number) => void) | undefined
}

/** In the driver: the child's API. Calls reject when the child rejects them, or dies. */
export const remote = <Methods>(child: ChildProcess, name: string): Remote<Methods> => {
  const pending = new Map<number, PromiseWithResolvers<unknown>>()
  let next = 0
  let gone: Error | undefined
  const end = (how: string) => {
    gone ??= new Error(`${name} ended: ${how}`)
    for (const { reject } of pending.values()) reject(gone)
    pending.clear()
  }
  const ends: Remote<Methods> = {
    onNote: undefined,
    tell: (value) => {
      if (child.connected) child.send({ kind: "note", value } satisfies Message)
    },
    call: (method, input) => {
      if (gone !== undefined) return Promise.reject(gone)
      const id = next++
      const answer = Promise.withResolvers<unknown>()
      pending.set(id, answer)
      child.send({ kind: "call", id, name: method, input } satisfies Message)
      // The child answers with what its method of this name returns.
      return answer.promise as Promise<never>
    }
  }
  child.on("message", (message: Message) => {
    if (message.kind === "note") return ends.onNote?.(message.value)
    if (message.kind === "call") return undefined
    const answer = pending.get(message.id)
    pending.delete(message.id)
    if (message.kind === "answer") answer?.resolve(message.value)
    else answer?.reject(new Error(`${name}: ${message.reason}`))
    return undefined
  })
  child.once("exit", (code, signal) => end(signal ?? `exit code ${code}`))
  child.once("error", (error) => end(error.message))
  return ends
}
