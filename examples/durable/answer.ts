// #region answer
import type { Stream } from "effect"
import { Effect } from "effect"
import { QueryResults } from "effect-realtime/server"
import { Answer } from "../channels.ts"

export const answer = <E, R>(userId: string, tokens: Stream.Stream<string, E, R>) =>
  Effect.gen(function* () {
    const id = QueryResults.newId(userId)
    yield* QueryResults.stream(Answer(id), tokens)
    return id // the tokens of 100 ms are one event
  })
// #endregion
