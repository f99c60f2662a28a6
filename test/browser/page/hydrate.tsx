/** Hydrates the streamed page. */
import { StrictMode } from "react"
import { hydrateRoot } from "react-dom/client"
import { type Read, type Rows, Streamed } from "./Streamed.tsx"

const read: Read = (name) => {
  const list = document.querySelector<HTMLElement>(`#${name} ul`)!
  return JSON.parse(list.dataset["snapshot"]!) as Rows
}

hydrateRoot(
  document,
  <StrictMode>
    <Streamed read={read} />
  </StrictMode>
)
