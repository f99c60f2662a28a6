/**
 * The presence channels of one client: for each a subscription that all its users share, and at most one
 * member of its own.
 *
 * In: users that watch, show states and leave, frames, sessions that open and go down. Out: the members as the
 * wire has it, and requests. As for events, the wire is compared with what is wanted after each answer, and
 * for what a user does at the end of the turn, so that a component that is unmounted and mounted again at once
 * sends nothing.
 *
 * The members stay while the link is away, and are replaced when all are here again. The own member stays
 * until the server shows it again.
 *
 * @since 0.1.0
 */
import type { FrameOf, ServerFrame } from "../Frame.ts"
import type {
  MembersWatcher,
  Over,
  PresenceHost,
  RefusalFields,
  Room,
  Rooms,
  WireMember
} from "./presenceTypes.ts"

/** Unanswered requests at once; with those of all others fewer than the 100 that the protocol allows. */
const maxUnanswered = 2

/** From one state that is sent to the next, in milliseconds: servers show others 5 changes in a second. */
const restMillis = 200

/** What waits for the answer to a state. */
interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** A room with what the connection calls. */
interface WireRoom extends Room {
  readonly isNeeded: () => boolean
  readonly down: () => void
  readonly receive: (frame: ServerFrame) => void
  readonly stop: (error: Over) => void
  readonly begin: () => void
}

export const make = (host: PresenceHost): Rooms => {
  const { after, connection, now, refusedOf } = host
  const rooms = new Map<string, WireRoom>()
  let unanswered = 0
  let isUp = connection.state.getSnapshot().status === "open"

  const driveAll = () => rooms.forEach((room) => room.drive())

  const makeRoom = (name: string): WireRoom => {
    const watchers = new Set<MembersWatcher>()
    /** What the users of this client show, as JSON text; the last one is the newest, and counts. */
    const holders = new Map<object, string>()
    let entries = new Map<string, WireMember>()
    let count = 0
    let named = true
    /** All members were here once. */
    let isKnown = false
    /** All members are here, and what changes follows. */
    let isWhole = false
    /** The server has the subscription. */
    let on = false
    /** A request for the subscription is unanswered, so that frames do not count. */
    let asking = false
    /** Another number says that the subscription is another one, or over. */
    let span = 0
    let since = Infinity
    let failures = 0
    let refusal: unknown
    let ended: Over | undefined
    /** Nothing is asked until the server may have another answer; calling it ends that. */
    let resting: (() => void) | undefined
    /** No user is left, but one may join again; calling it ends that. */
    let lingering: (() => void) | undefined
    let isLooking = false

    /** The own member, also while it is not shown again after a reconnect. */
    let me: string | undefined
    /** The server has taken a state in this subscription. */
    let isPresent = false
    /** The newest state is still to be sent. */
    let isDirty = false
    /** A request of the own member is unanswered. */
    let presenting = false
    let freeAt = -Infinity
    /** The own member waits for its turn; calling it ends that. */
    let pausing: (() => void) | undefined
    let ownFailures = 0
    /** Why the server rejected the own state. */
    let ownError: unknown
    /** The own member as it was before all members were sent again without it. */
    let kept: string | undefined
    let waiting: Array<Waiting> = []
    /** Those of the request that is unanswered. */
    let sent: Array<Waiting> = []

    const changed = () => {
      for (const { onChange } of Array.from(watchers)) onChange()
    }

    const ask = (
      frame: Parameters<typeof connection.request>[0],
      onAnswer: (answer: ServerFrame) => void
    ) => {
      unanswered++
      const mine = span
      connection.request(frame, (answer) => {
        unanswered--
        if (span === mine) onAnswer(answer)
        // Others may have waited for their turn to ask.
        driveAll()
      })
    }

    const drive = () => {
      if (asking || resting !== undefined || unanswered >= maxUnanswered) return
      if (watchers.size > 0) {
        // After all members, so that the own one among them is known by its name of before.
        if (isWhole) show()
        else if (isUp && !on) subscribe()
      } else if (on && isPresent) show()
      else if (lingering === undefined) {
        if (!on) rooms.delete(name)
        else if (!presenting) {
          over()
          asking = true
          ask({ type: "unsubscribe", channel: name }, () => {
            asking = false
          })
        }
      }
    }

    /** Looks at the end of this turn. */
    const look = () => {
      connection.look()
      if (isLooking) return
      isLooking = true
      queueMicrotask(() => {
        isLooking = false
        drive()
      })
    }

    const subscribe = () => {
      asking = true
      ask({ type: "subscribe", channel: name }, (answer) => {
        asking = false
        if (answer.type === "error") return refused(answer)
        on = true
        since = now()
        refusal = ended = undefined
        isDirty = holders.size > 0
      })
    }

    /** Sends what the own member is to show, when its turn has come. */
    const show = () => {
      if (presenting || pausing !== undefined) return
      const json = [...holders.values()].at(-1)
      if (json === undefined) {
        if (!isPresent) {
          if (kept !== undefined) left()
          return
        }
        presenting = true
        isPresent = false
        return ask({ type: "absent", channel: name }, () => {
          presenting = false
          left()
        })
      }
      if (!isDirty) return
      const rest = freeAt - now()
      if (rest > 0) return pause(rest)
      freeAt = now() + restMillis
      isDirty = false
      presenting = true
      sent = waiting
      waiting = []
      ask({ type: "present", channel: name, member: JSON.parse(json) }, (answer) => {
        presenting = false
        if (answer.type === "error") notShown(answer)
        else if (answer.type === "present") {
          isPresent = true
          me = answer.member
          ownError = undefined
          ownFailures = 0
          settle(sent.splice(0), ({ resolve }) => resolve())
        }
        changed()
      })
    }

    /** The own member is here no more. */
    const left = () => {
      me = undefined
      forget()
      changed()
    }

    const pause = (millis: number) => {
      pausing = after(millis, () => {
        pausing = undefined
        drive()
      })
    }

    const notShown = (answer: RefusalFields) => {
      const error = connection.refused(name, answer)
      const isOver = holders.size === 0
      if (error === undefined && !isOver) {
        const retryAfter = answer.retryAfter ?? connection.jitter(++ownFailures)
        ownError = refusedOf(name, answer, retryAfter)
        isDirty = true
        waitAgain()
        freeAt = now() + retryAfter
        return pause(retryAfter)
      }
      ownError = isOver ? undefined : error
      // Another state may have been shown meanwhile, and then it is sent.
      if (error === undefined) waitAgain()
      else settle(sent.splice(0), ({ reject }) => reject(error))
      if (!isPresent) me = undefined
      forget()
    }

    const settle = (list: ReadonlyArray<Waiting>, how: (one: Waiting) => void) => list.forEach(how)

    /** A state was sent and not taken: its users wait for the next, unless nothing is shown any more. */
    const waitAgain = () => {
      const again = sent.splice(0)
      if (holders.size > 0) waiting.unshift(...again)
      else settle(again, ({ resolve }) => resolve())
    }

    /** The own member is not shown again. */
    const forget = () => {
      if (kept !== undefined) entries.delete(kept)
      kept = undefined
    }

    /** The subscription is over; what was known stays. */
    const over = () => {
      span++
      on = asking = isWhole = isPresent = presenting = false
      waitAgain()
      pausing?.()
      pausing = undefined
    }

    const refused = (answer: RefusalFields) => {
      const error = connection.refused(name, answer)
      if (error !== undefined) return end(error)
      if (now() - since >= connection.resetAfter) failures = 0
      since = Infinity
      const retryAfter = answer.retryAfter ?? connection.jitter(++failures)
      refusal = refusedOf(name, answer, retryAfter)
      resting = after(retryAfter, () => {
        resting = undefined
        drive()
      })
      changed()
    }

    /** The server will not: all users leave. */
    const end = (error: Over) => {
      over()
      const gone = [...watchers]
      watchers.clear()
      holders.clear()
      stop(error, gone)
    }

    const stop = (error: Over, of: Iterable<MembersWatcher> = watchers) => {
      ended = error
      settle(waiting.splice(0), ({ reject }) => reject(error))
      for (const watcher of Array.from(of)) {
        watcher.onChange()
        watcher.onEnd(error)
      }
    }

    const put = (id: string, data: unknown) => {
      const text = JSON.stringify(data)
      if (entries.get(id)?.text !== text) entries.set(id, { text, data })
    }

    /** Replaces the members. Those that were here before stay in their order. */
    const replace = (set: FrameOf<ServerFrame, "members">["set"]) => {
      const before = entries
      const own = kept ?? me
      entries = new Map()
      named = set !== undefined
      isKnown = isWhole = true
      kept = undefined
      for (const [id, entry] of before) {
        const isHere = set !== undefined && Object.hasOwn(set, id)
        // The server shows it again when it has the own state.
        if (!isHere && named && id === own && holders.size > 0) kept = id
        if (isHere || id === kept) entries.set(id, entry)
      }
    }

    const received = ({ count: all, gone = [], set, whole }: FrameOf<ServerFrame, "members">) => {
      count = all
      if (whole) replace(set)
      for (const id in set) put(id, set[id])
      for (const id of gone) {
        entries.delete(id)
        if (id === kept) kept = undefined
      }
      if (kept !== undefined && set !== undefined && Object.hasOwn(set, me!)) {
        if (me !== kept) forget()
        kept = undefined
      }
      changed()
      if (whole) drive()
    }

    const self: WireRoom = {
      now: () => ({
        entries,
        // The own member that is to be shown again is not counted by the server.
        count: kept === undefined ? count : count + 1,
        named,
        me: kept ?? me,
        status:
          ended !== undefined
            ? "error"
            : isWhole
              ? "live"
              : isKnown || refusal !== undefined
                ? "stale"
                : "loading",
        error: ended ?? refusal ?? ownError
      }),
      watch: (watcher) => {
        rooms.set(name, self)
        watchers.add(watcher)
        lingering?.()
        lingering = undefined
        ended = connection.stopped()
        if (ended !== undefined) watcher.onEnd(ended)
        look()
        return () => {
          if (!watchers.delete(watcher) || watchers.size > 0) return look()
          lingering = after(connection.linger, () => {
            lingering = undefined
            drive()
          })
          look()
        }
      },
      hold: () => {
        const key = {}
        return {
          show: (json) => {
            // Behind the others: the newest counts.
            holders.delete(key)
            holders.set(key, json)
            isDirty = true
            ownError = undefined
            look()
            const over =
              ended === undefined
                ? new Promise<void>((resolve, reject) => waiting.push({ resolve, reject }))
                : Promise.reject(ended)
            // A caller may ignore it.
            over.catch(() => {})
            return over
          },
          leave: () => {
            const isNewest = [...holders.keys()].at(-1) === key
            if (!holders.delete(key) || !isNewest) return
            isDirty = holders.size > 0
            if (!isDirty) {
              ownError = undefined
              pausing?.()
              pausing = undefined
              settle(waiting.splice(0), ({ resolve }) => resolve())
            }
            look()
          }
        }
      },
      drive,
      views: new Map(),
      isNeeded: () => watchers.size > 0,
      down: () => {
        over()
        // What this server said need not hold for the next session.
        resting?.()
        resting = undefined
        refusal = ownError = undefined
        changed()
        drive()
      },
      receive: (frame) => {
        if (!("channel" in frame) || frame.channel !== name || asking || !on) return
        if (frame.type === "members") received(frame)
        else if (frame.type === "ended") {
          over()
          refused(frame)
          drive()
        }
      },
      stop,
      begin: () => {
        if (ended === undefined) return
        ended = undefined
        changed()
      }
    }
    return self
  }

  host.enlist({
    needed: () => Array.from(rooms.values()).some((room) => room.isNeeded()),
    open: () => {
      isUp = true
      driveAll()
    },
    down: () => {
      isUp = false
      unanswered = 0
      rooms.forEach(({ down }) => down())
    },
    receive: (frame) => rooms.forEach(({ receive }) => receive(frame)),
    end: (error) => rooms.forEach(({ stop }) => stop(error))
  })
  // Those that are still there after a stop go on when the client connects again.
  connection.state.subscribe(() => {
    if (connection.stopped() === undefined) rooms.forEach(({ begin }) => begin())
  })

  return (name, mine) => rooms.get(name) ?? (mine as WireRoom | undefined) ?? makeRoom(name)
}
