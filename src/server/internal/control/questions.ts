/**
 * Questions to all nodes over the bus: a node that does not answer in time is named, and fails nothing.
 *
 * A question that gets lost is sent again, and a node that hears it twice acts once.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Neighbour, Node, NodeBus, Send } from "../../NodeBus.ts"

/** Milliseconds until a question is sent again to the nodes that did not answer. */
const againEvery = 300

/** Questions of other nodes whose answers a node remembers. */
const maxRemembered = 1000

export interface Replies {
  readonly answered: ReadonlyArray<{ readonly node: string; readonly answer: unknown }>
  /** Names of the nodes that did not answer. */
  readonly missing: ReadonlyArray<string>
}

interface Open {
  readonly answers: Map<string, unknown>
  readonly heard: Latch.Latch
}

const idOf = (content: unknown, name: "question" | "reply"): number | undefined => {
  if (typeof content !== "object" || content === null) return undefined
  const id = (content as Readonly<Record<string, unknown>>)[name]
  return typeof id === "number" ? id : undefined
}

/**
 * Joins the topic, and answers the questions of other nodes with `act`. The result asks them, for at most
 * `within` milliseconds, and waits only for nodes that are here.
 */
export const make = (
  bus: NodeBus["Service"],
  topic: string,
  act: (command: unknown) => Effect.Effect<Schema.Json>
): Effect.Effect<
  (command: Schema.Json, within: number) => Effect.Effect<Replies>,
  never,
  Scope.Scope
> =>
  Effect.gen(function* () {
    const run = Effect.runForkWith(yield* Effect.context<never>())
    const scope = yield* Effect.scope
    const open = new Map<number, Open>()
    /** By node and question; `undefined` while it acts. Insertion order is age. */
    const done = new Map<string, Schema.Json | undefined>()
    let last = 0
    let send: Send = () => undefined

    const asked = (id: number, command: unknown, from: Node): void => {
      const name = `${from.incarnation} ${id}`
      if (done.has(name)) {
        const answer = done.get(name)
        if (answer !== undefined) send({ reply: id, answer }, from)
        return
      }
      done.set(name, undefined)
      for (const oldest of done.keys()) {
        if (done.size <= maxRemembered) break
        done.delete(oldest)
      }
      run(
        act(command).pipe(
          Effect.map((answer) => {
            done.set(name, answer)
            send({ reply: id, answer }, from)
          }),
          // The asker asks again, or names this node.
          Effect.catchCause(() => Effect.sync(() => void done.delete(name))),
          Effect.forkIn(scope)
        )
      )
    }

    // No other part has the topic: a second server with control is refused before.
    send = yield* Effect.orDie(
      bus.join(topic, {
        receive: (content, from) => {
          const question = idOf(content, "question")
          if (question !== undefined) {
            return asked(question, (content as { readonly command?: unknown }).command, from)
          }
          const one = open.get(idOf(content, "reply") ?? -1)
          one?.answers.set(from.incarnation, (content as { readonly answer?: unknown }).answer)
          one?.heard.openUnsafe()
        }
      })
    )

    const asking = (id: number, command: Schema.Json, within: number) =>
      Effect.gen(function* () {
        const nodes = yield* bus.nodes
        const one: Open = { answers: new Map(), heard: Latch.makeUnsafe(false) }
        open.set(id, one)
        const silent = ({ incarnation }: Neighbour) => !one.answers.has(incarnation)
        const ask = Effect.gen(function* () {
          send({ question: id, command })
          while (true) {
            // A node that died meanwhile is not waited for.
            const here = (yield* bus.nodes).filter(({ state }) => state === "here")
            const waiting = nodes.filter(
              (node) =>
                silent(node) && here.some(({ incarnation }) => incarnation === node.incarnation)
            )
            if (waiting.length === 0) return
            one.heard.closeUnsafe()
            const heard = yield* Effect.timeoutOption(one.heard.await, againEvery)
            if (heard._tag === "None") {
              for (const node of waiting) if (silent(node)) send({ question: id, command }, node)
            }
          }
        })
        yield* Effect.timeoutOption(ask, within)
        return {
          answered: nodes
            .filter((node) => !silent(node))
            .map(({ incarnation, name }) => ({ node: name, answer: one.answers.get(incarnation) })),
          missing: nodes.filter(silent).map(({ name }) => name)
        }
      }).pipe(Effect.ensuring(Effect.sync(() => open.delete(id))))

    return (command, within) =>
      Effect.suspend(() => {
        const id = ++last
        return asking(id, command, within)
      })
  })
