import { useCallback, useLayoutEffect, useReducer } from "react"
import type { Order } from "../channels.ts"
import { begin, type Board, follow, forget } from "./board.ts"

interface Known {
  readonly board: Board
  readonly view: string | undefined
}

type Action =
  | { readonly rows: ReadonlyArray<Order>; readonly view: string | undefined; readonly now: number }
  | { readonly left: number }

const reduce = (known: Known, action: Action): Known => {
  const { board, view } = known
  if ("left" in action) return { board: forget(board, action.left), view }
  if (action.view === undefined) return known
  if (action.view !== view) return { board: begin(action.rows), view: action.view }
  return action.rows === board.rows
    ? known
    : { board: follow(board, action.rows, action.now), view }
}

/**
 * What the list shows, and a function for an order whose animation ended. Another view begins anew. Without
 * a view the list stays as it is.
 */
export const useBoard = (
  rows: ReadonlyArray<Order>,
  view: string | undefined
): readonly [Board, (id: number) => void] => {
  const [{ board }, dispatch] = useReducer(reduce, { board: begin(rows), view })
  // Before the next frame, so that none shows the rows before.
  useLayoutEffect(() => dispatch({ rows, view, now: Date.now() }), [rows, view])
  const leave = useCallback((left: number) => dispatch({ left }), [])
  return [board, leave]
}
