/**
 * Channels as React hooks. Safe in browsers and on servers that render.
 *
 * @since 0.1.0
 */
export type { Collected, Load } from "../client/Collector.ts"
export * from "./history.ts"
export * from "./hooks.ts"
export * from "./presence.ts"
export * from "./publishing.ts"
export * from "./queryStream.ts"
export * from "./rows.ts"
export { RealtimeProvider, type RealtimeProviderProps } from "./RealtimeProvider.ts"
