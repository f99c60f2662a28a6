// #region answer
import { useQueryStream } from "effect-realtime/react"
import type { Answer } from "../channels.ts"

/** <AnswerText channel={Answer(id)} /> */
export function AnswerText({ channel }: { readonly channel: ReturnType<typeof Answer> }) {
  const { error, status, stop, value } = useQueryStream(channel)
  return (
    <p>
      {value} {status === "error" && String(error)}
      {status === "running" && <button onClick={() => void stop()}>Stop</button>}
    </p>
  )
}
// #endregion
