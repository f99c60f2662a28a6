/** The members of a presence channel in a component: renders, the own state, leaving, and sharing. */
import { act } from "@testing-library/react"
import { Schema } from "effect"
import { Channel } from "effect-realtime"
import type { Members } from "effect-realtime/client"
import { usePresence } from "effect-realtime/react"
import { renderToString } from "react-dom/server"
import { describe, expect, it } from "vitest"
import type { ServerFrame } from "../../src/Frame.ts"
import { page, settle } from "./support/page.tsx"

const Guest = Schema.Struct({ name: Schema.String, at: Schema.optionalKey(Schema.Date) })
type Guest = typeof Guest.Type
const inRoom = Channel.presence("in_room_", Schema.String, Guest)

interface Props {
  readonly room?: string
  readonly state?: Guest
}

/** A page whose server shows a client to itself at once, as `m-` and its name. */
const roomPage = () => {
  const one = page()
  const { server } = one
  const members = (channel: string, names: ReadonlyArray<string>, whole = false): ServerFrame => ({
    type: "members",
    channel,
    count: names.length,
    set: Object.fromEntries(names.map((name) => [`m-${name}`, { name }])),
    ...(whole && { whole })
  })
  server.heard = (socket, frame) => {
    server.answer(socket, frame)
    if (frame.type === "subscribe") socket.say(members(frame.channel, ["eve"], true))
    if (frame.type === "absent") socket.say({ type: "absent", id: frame.id })
    if (frame.type === "present") {
      const { name } = frame.member as Guest
      socket.say({ type: "present", id: frame.id, member: `m-${name}` })
      socket.say(members(frame.channel, ["eve", name], true))
    }
  }
  const shown: Array<Members.Shown<Guest>> = []
  const View = ({ room = "1", state }: Props) => {
    shown.push(usePresence(inRoom(room), state))
    return null
  }
  const now = () => shown.at(-1)!
  const names = () => now().members.map(({ isMe, state }) => state.name + (isMe ? "!" : ""))
  const sent = () => one.types().filter((type) => type !== "hello")
  return { ...one, View, shown, now, names, sent, members }
}

describe("usePresence", () => {
  it("shows the members, is one of them with a state, and leaves when it is unmounted", async () => {
    const { View, names, now, render, say, sent, server, shown } = roomPage()
    const view = render(<View state={{ name: "ann" }} />)
    expect(now()).toMatchObject({ status: "loading", members: [], count: 0, me: undefined })
    await settle(() => names().length === 2)
    expect(names()).toEqual(["eve", "ann!"])
    expect(now()).toMatchObject({ status: "live", count: 2, me: { state: { name: "ann" } } })
    expect(sent()).toEqual(["subscribe", "present"])
    const [eve] = now().members
    shown.length = 0
    view.again(<View state={{ name: "ann" }} />)
    expect(new Set(shown).size).toBe(1)
    const frame = (name: string): ServerFrame => ({
      type: "members",
      channel: "in_room_1",
      count: 2,
      set: { "m-ann": { name } }
    })
    shown.length = 0
    await say(frame("a"), frame("b"), frame("c"))
    await settle(() => names().at(-1) === "c!")
    expect(new Set(shown).size).toBe(1)
    expect(now().members[0]).toBe(eve)
    await act(() => now().update({ name: "Ann" }))
    expect(server.last.of("present").at(-1)!.member).toEqual({ name: "Ann" })
    view.unmount()
    await settle(() => sent().includes("unsubscribe"))
    expect(sent().slice(-2)).toEqual(["absent", "unsubscribe"])
  })

  it("only watches without a state, and joins and leaves with it", async () => {
    const { View, now, render, sent } = roomPage()
    const view = render(<View />)
    await settle(() => now().status === "live")
    expect(sent()).toEqual(["subscribe"])
    view.again(<View state={{ name: "ann" }} />)
    await settle(() => now().me !== undefined)
    view.again(<View />)
    await settle(() => sent().includes("absent"))
    expect(sent()).toEqual(["subscribe", "present", "absent"])
  })

  it("stays a member while another component shows a state, and moves with its channel", async () => {
    const { View, now, render, sent, server } = roomPage()
    const both = (first: boolean, room = "1") => (
      <>
        {first && <View key="a" state={{ name: "ann" }} />}
        <View key="b" room={room} state={{ name: "ann" }} />
      </>
    )
    const view = render(both(true))
    await settle(() => now().me !== undefined)
    view.again(both(false))
    await settle(() => now().me !== undefined)
    expect(sent()).not.toContain("absent")
    view.again(both(false, "2"))
    expect(now()).toMatchObject({ status: "loading", members: [] })
    await settle(() => now().me !== undefined && sent().includes("absent"))
    expect(server.last.of("present").at(-1)).toMatchObject({ channel: "in_room_2" })
    expect(server.last.of("absent").map(({ channel }) => channel)).toEqual(["in_room_1"])
  })

  it("says why a state is not shown, and keeps the members", async () => {
    const { View, now, render, sent } = roomPage()
    let renders = 0
    const Literal = () => {
      renders++
      return <>{String(usePresence(inRoom("1"), { name: 1 } as never).error)}</>
    }
    const view = render(<Literal />)
    await settle(() => view.container.textContent.startsWith("InvalidPayload"))
    await settle(() => sent().includes("subscribe"))
    expect(renders).toBeLessThan(10)
    view.again(<View state={{ name: 1 } as never} />)
    await settle(() => now().status === "live")
    expect(now().error).toMatchObject({ _tag: "InvalidPayload", direction: "encode" })
    view.again(<View state={{ name: "ann" }} />)
    await settle(() => now().me !== undefined)
    expect(now().error).toBe(undefined)
  })

  it("renders on a server as loading, and has the same snapshot until something changes", () => {
    const { View, shown, store, wrap } = roomPage()
    expect(renderToString(wrap(<View state={{ name: "ann" }} />))).toBe("")
    expect(shown.at(-1)).toMatchObject({ status: "loading", members: [], count: 0 })
    const room = store.presence(inRoom("1"))
    const first = room.getSnapshot()
    const reads = Array.from({ length: 1000 }, () => room.getSnapshot())
    expect(reads.every((one) => one === first && one === room.getServerSnapshot())).toBe(true)
  })
})
