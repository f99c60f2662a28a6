/**
 * The load balancer of the cluster: nginx or HAProxy where this machine has one, else a few lines of Node.
 *
 * It needs no sticky sessions, because a client resumes on any node. What every balancer before a WebSocket
 * needs is here: the upgrade passes, `Host` stays what the browser sent, a node that rejects a client or is
 * not there is passed over, and a quiet socket is not cut before the ping of the server (25 s).
 */
import { Effect, FileSystem } from "effect"
import { connect, createServer, type Socket } from "node:net"
import { fileURLToPath } from "node:url"
import { accepts, find, run } from "./programs.ts"

export interface Balancer {
  readonly name: string
  /** Fails when it ends. */
  readonly ended: Effect.Effect<never, unknown>
}

/** `nginx.conf`, which docker-compose.yml has too, with the ports of this machine. */
const nginx = Effect.fnUntraced(function* (
  port: number,
  nodes: ReadonlyArray<number>,
  folder: string
) {
  const files = yield* FileSystem.FileSystem
  const left = [...nodes]
  const server = (yield* files.readFileString(
    fileURLToPath(new URL("nginx.conf", import.meta.url))
  ))
    .replace("listen 8080;", `listen 127.0.0.1:${port};`)
    .replaceAll(/node\d:3000/g, () => `127.0.0.1:${left.shift()}`)
  return `
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
access_log off;
client_body_temp_path ${folder}/body;
proxy_temp_path ${folder}/proxy;
fastcgi_temp_path ${folder}/fastcgi;
uwsgi_temp_path ${folder}/uwsgi;
scgi_temp_path ${folder}/scgi;
${server}}
`
})

// #region haproxy
const haproxy = (port: number, nodes: ReadonlyArray<number>) => `
global
  maxconn 4096
defaults
  mode http
  option forwardfor
  option redispatch
  retries 2
  retry-on conn-failure 503
  timeout connect 2s
  timeout client 90s
  timeout server 90s
  timeout tunnel 90s
frontend door
  bind 127.0.0.1:${port}
  default_backend nodes
backend nodes
  balance leastconn
${nodes.map((node, index) => `  server node${index + 1} 127.0.0.1:${node} check inter 1s`).join("\n")}
`
// #endregion

/** Connects to the nodes in turn, and skips those that are not there. */
const ownBalancer = (port: number, nodes: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    let next = 0
    const sockets = new Set<Socket>()
    const track = (socket: Socket) => {
      sockets.add(socket)
      socket.on("close", () => sockets.delete(socket))
      socket.on("error", () => undefined)
    }
    const pass = (client: Socket, left: number): void => {
      if (left === 0) return void client.destroy()
      const node = connect({ host: "127.0.0.1", port: nodes[next++ % nodes.length]! })
      node.once("error", () => pass(client, left - 1))
      node.once("connect", () => {
        node.removeAllListeners("error")
        track(node)
        client.pipe(node).pipe(client)
        client.once("close", () => node.destroy())
        node.once("close", () => client.destroy())
      })
    }
    const server = createServer((client) => {
      track(client)
      pass(client, nodes.length)
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(port, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.sync(() => {
          server.close()
          for (const socket of sockets) socket.destroy()
        })
    )
    return { name: "Node", ended: Effect.never } satisfies Balancer
  })

/** Runs a balancer on a port. CLUSTER_BALANCER chooses one: `nginx`, `haproxy` or `node`. */
export const start = Effect.fnUntraced(function* (
  port: number,
  nodes: ReadonlyArray<number>,
  chosen: string | undefined
) {
  const files = yield* FileSystem.FileSystem
  const folder = yield* files.makeTempDirectoryScoped({ prefix: "cluster-" })
  const config = `${folder}/config`
  for (const name of chosen === undefined ? ["nginx", "haproxy"] : [chosen]) {
    const program = name === "node" ? undefined : yield* find(name)
    if (program === undefined) continue
    const isNginx = name === "nginx"
    yield* files.writeFileString(
      config,
      isNginx ? yield* nginx(port, nodes, folder) : haproxy(port, nodes)
    )
    const args = isNginx
      ? ["-p", folder, "-c", config, "-e", "stderr"]
      : ["-db", "-q", "-f", config]
    const { ended } = yield* run(program, args)
    yield* Effect.raceFirst(accepts(port), ended)
    return { name, ended } satisfies Balancer
  }
  return yield* ownBalancer(port, nodes)
})
