/**
 * The addresses of clients: as sockets and proxies write them, and as limits count them.
 */
import { BlockList, isIP } from "node:net"

/** Loopback, link-local and private networks: the addresses of neighbours and proxies. */
const near = new BlockList()
near.addSubnet("127.0.0.0", 8)
near.addSubnet("10.0.0.0", 8)
near.addSubnet("172.16.0.0", 12)
near.addSubnet("192.168.0.0", 16)
near.addSubnet("169.254.0.0", 16)
near.addAddress("::1", "ipv6")
near.addSubnet("fc00::", 7, "ipv6")
near.addSubnet("fe80::", 10, "ipv6")

/** Whether an address is not of the public internet, so that many clients may share it. */
export const isNear = (address: string): boolean => {
  const family = isIP(address)
  return family === 0 || near.check(address, family === 6 ? "ipv6" : "ipv4")
}

/** `1.2.3.4:567` or `[::1]:567`: some proxies add the port. */
const withPort = /^(?:\[([^\]]+)\]|(\d+\.\d+\.\d+\.\d+))(?::\d+)?$/

/** Reads an address as a socket or a proxy writes it; empty if it is not valid. */
export const readAddress = (written: string): string => {
  const text = written.trim()
  const parts = withPort.exec(text)
  const bare = parts?.[1] ?? parts?.[2] ?? text
  if (isIP(bare) !== 6) return isIP(bare) === 4 ? bare : ""
  return ipv4In(bare) ?? bare
}

/** The IPv4 address in an IPv6 one, as a dual-stack socket writes it. */
const ipv4In = (address: string): string | undefined => {
  const groups = groupsOf(address)
  const mapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xff_ff
  if (!mapped) return undefined
  const [high = 0, low = 0] = groups.slice(6)
  return [high >> 8, high & 255, low >> 8, low & 255].join(".")
}

/** The eight numbers of a valid IPv6 address. */
const groupsOf = (address: string): ReadonlyArray<number> => {
  const [text = ""] = address.split("%")
  const numbers = (half: string): ReadonlyArray<number> =>
    half === ""
      ? []
      : half.split(":").flatMap((part) => {
          if (!part.includes(".")) return [Number.parseInt(part, 16)]
          const [a = 0, b = 0, c = 0, d = 0] = part.split(".").map(Number)
          return [a * 256 + b, c * 256 + d]
        })
  const [front = "", back] = text.split("::")
  const head = numbers(front)
  if (back === undefined) return head
  const tail = numbers(back)
  return [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail]
}

/**
 * The network that limits count. One customer has a whole IPv6 network of 64 bits, and could use
 * another address of it for each connection.
 */
export const networkOf = (address: string): string =>
  isIP(address) === 6
    ? `${groupsOf(address)
        .slice(0, 4)
        .map((group) => group.toString(16))
        .join(":")}::/64`
    : address
