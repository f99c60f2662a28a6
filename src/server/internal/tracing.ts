/**
 * The spans of a node, and the trace context of a publish as the text that travels beside its message.
 *
 * Without a tracer of the application there are no spans, and no context travels: the default tracer shows
 * its spans to no one. No span is of a single delivered event, and none lasts as long as a socket.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Tracer from "effect/Tracer"

const tracerOf = (context: Context.Context<never>): Tracer.Tracer | undefined => {
  const tracer = Context.get(context, Tracer.Tracer)
  return tracer === Tracer.nativeTracer ? undefined : tracer
}

/** Runs an effect in a span of this name. */
export const inSpan =
  (name: string, options: () => Tracer.SpanOptionsNoTrace) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Effect.context<never>(), (context) =>
      tracerOf(context) === undefined
        ? effect
        : Effect.useSpan(name, options(), (span) => Effect.withParentSpan(effect, span))
    )

/** Runs work of the node itself, such as its upkeep: neither it nor its statements make a span. */
export const untraced: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> =
  Effect.withTracerEnabled(false)

/** Runs a read whose statements make spans below the span of its caller only, and no trace of their own. */
export const belowCaller = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.context<never>(), (context) =>
    Context.getOrUndefined(context, Tracer.ParentSpan) === undefined ? untraced(effect) : effect
  )

/** Ends a span; a second call does nothing. */
export type EndSpan = <A, E>(exit: Exit.Exit<A, E>) => Effect.Effect<void>

/** Ends no span. */
export const endNothing: EndSpan = () => Effect.void

/** Begins a span with a trace of its own, for work that does not end in the effect in which it began. */
export const beginSpan = (name: string): Effect.Effect<EndSpan> =>
  Effect.flatMap(Effect.context<never>(), (context) =>
    tracerOf(context) === undefined
      ? Effect.succeed(endNothing)
      : Effect.map(Effect.makeSpan(name, { root: true }), (span): EndSpan => {
          let open = true
          return (exit) =>
            Effect.map(Clock.currentTimeNanos, (now) => {
              if (open) span.end(now, exit)
              open = false
            })
        })
  )

const w3c = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

/** A span as the text of W3C `traceparent`; `undefined` where its tracer has ids of another form. */
const traceText = ({ sampled, spanId, traceId }: Tracer.AnySpan): string | undefined => {
  const text = `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`
  return w3c.test(text) ? text : undefined
}

/** The span that a text names; `undefined` for any other text. */
const spanOf = (text: string | undefined): Tracer.ExternalSpan | undefined => {
  const [, traceId, spanId, flags] = w3c.exec(text ?? "") ?? []
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined
  return Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 })
}

/** The trace context of the fiber as text. */
export const traceOfFiber: Effect.Effect<string | undefined> = Effect.map(
  Effect.context<never>(),
  (context) => {
    if (tracerOf(context) === undefined) return undefined
    const span = Context.getOrUndefined(context, Tracer.ParentSpan)
    return span && traceText(span)
  }
)

/** The most links of one span. */
const mostLinks = 128

/** Links to the spans that these texts name, each once. */
export const linksTo = (texts: Iterable<string | undefined>): Array<Tracer.SpanLink> => {
  const links = new Map<string, Tracer.SpanLink>()
  for (const text of texts) {
    if (links.size >= mostLinks) break
    const span = text === undefined || links.has(text) ? undefined : spanOf(text)
    if (span !== undefined) links.set(text!, { span, attributes: {} })
  }
  return [...links.values()]
}
