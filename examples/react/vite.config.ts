// #region vite
import react from "@vitejs/plugin-react"
import { defineConfig } from "vite"

/** Vite serves the page, your server on port 3000 the socket. */
export default defineConfig({
  plugins: [react()],
  server: { proxy: { "/realtime": { target: "http://127.0.0.1:3000", ws: true } } }
})
// #endregion
