// #region vite
import react from "@vitejs/plugin-react"
import { defineConfig } from "vite"

/** The page is served by Vite, the socket by your server on port 3000. */
export default defineConfig({
  plugins: [react()],
  server: { proxy: { "/realtime": { target: "http://127.0.0.1:3000", ws: true } } }
})
// #endregion
