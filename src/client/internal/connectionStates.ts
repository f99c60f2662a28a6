/**
 * The states of a connection.
 *
 * ```
 * Idle <-> Waiting -> Asking -> Dialing -> Open
 *             ^_________|__________|________|     failed, closed, nothing heard
 * ```
 *
 * Every state may become `Stopped`. A state on the way to a socket becomes `Idle` when nothing needs the
 * connection any more. `Asking` is for a token and then for an address, each where a function must be called for
 * it. `Waiting` becomes `Dialing` at once where there is none.
 *
 * Each state is entered by the function of `machine` that has its name. The function's variables are
 * the state's data, and no other state can reach them.
 *
 * @since 0.1.0
 */
import type { ClientFrame, ServerFrame } from "../../Frame.ts"
import type { ConnectionStopped } from "../ClientError.ts"

/** A frame to be written: JSON leaves out what is `undefined`. */
export type Written<Frame> = {
  readonly [Key in keyof Frame]: Frame[Key] | (undefined extends Frame[Key] ? undefined : never)
}

/** A request whose id is still to be given. */
type Request<Frame = ClientFrame> = Frame extends { readonly id: number }
  ? Written<Omit<Frame, "id">>
  : never

/** Asks the server, and receives its answer. */
export type Ask = (frame: Request, onAnswer: (frame: ServerFrame) => void) => void

/** What is to be done, and when; `Infinity`: never. What is first is done first. */
export type Times = ReadonlyArray<readonly [at: number, act: () => void]>

export interface State {
  readonly times: () => Times
  /** The page has signalled, or its user has `asked`. `Idle` and `Stopped` do not hear it. */
  readonly check?: (asked?: boolean) => void
  /** `Dialing` and `Open`: lets go of the socket. Called once, when the next state has been entered. */
  readonly down?: () => void
  /** `Open` */
  readonly request?: Ask
  /** `Open`: renews the identity with a fresh token. */
  readonly renew?: () => void
  /** `Open`: gives up a link that lives and does not do what it is for. */
  readonly giveUp?: (message: string) => void
  /** `Stopped` */
  readonly stopped?: ConnectionStopped
}
