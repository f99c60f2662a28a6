import { RealtimeProvider } from "effect-realtime/react"
import { StrictMode } from "react"
import { createRoot } from "react-dom/client"
import { App } from "./App.tsx"
import { store } from "./store.ts"

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <RealtimeProvider client={store}>
      <App />
    </RealtimeProvider>
  </StrictMode>
)
