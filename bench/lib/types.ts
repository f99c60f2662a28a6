/**
 * The calls of the driver to its children.
 */

export type SubjectName =
  | "effect-realtime"
  | "effect-realtime-seen"
  | "effect-realtime-route"
  | "effect-realtime-durable"
  | "effect-realtime-both"
  | "effect-realtime-table"
  | "ws"
  | "floor"
  | "socket.io"
  | "effect-rpc"
  | "effect-stream"
  | "ws+pg-listen"
  | "nats-server"
  | "mosquitto"

/** How a client talks to a subject. */
export type DialectName = "plain" | "realtime" | "socket.io" | "rpc" | "nats" | "mqtt"

/** The shape of the audience, the same for every subject of a workload. */
export interface Audience {
  readonly sockets: number
  /** The sockets subscribe to them in turn, each to as many as it may have. */
  readonly channels: number
  /** Channels each socket subscribes to, default 1; 0 says hello and nothing else. */
  readonly subscriptions?: number
  /** Bytes of one message. */
  readonly bytes: number
}

/** How messages are published. */
export type Pace =
  | { readonly kind: "rate"; readonly perSecond: number }
  /** `burst` messages in each turn of the event loop, as fast as the clients read. */
  | { readonly kind: "turn"; readonly burst: number }

export interface Setup {
  readonly subject: SubjectName
  readonly audience: Audience
  /** The source of NOTIFYs; without it the server publishes by itself. */
  readonly databaseUrl?: string
  /** Milliseconds between two looks at the outbox, of a reader that only polls. */
  readonly poll?: number
  /** The port of a NATS server over which one node reads for all. */
  readonly nats?: number
}

export interface Cpu {
  /** Microseconds. */
  readonly user: number
  readonly system: number
}

export interface Memory {
  /** Bytes of the JavaScript heap and of external memory; 0 for what is no Node process. */
  readonly heap: number
  readonly rss: number
}

export interface Loop {
  /**
   * The longest block of the event loop, in milliseconds; also while other processes had the CPU.
   */
  readonly longest: number
  /** The most CPU time that its thread used in a block, in milliseconds. */
  readonly hardest: number
  /** The most memory (RSS) of 50 samples a second, in bytes. */
  readonly peak: number
}

export interface ServerApi {
  readonly open: (setup: Setup) => Promise<{ readonly port: number }>
  /** Makes the texts of messages `from` to `from + count`, and collects garbage. */
  readonly prepare: (window: { readonly from: number; readonly count: number }) => void
  /** The clock of the window starts here. */
  readonly start: (options: { readonly profile?: string }) => Promise<void>
  /** Publishes the prepared messages for at most this time; returns their number. */
  readonly publish: (options: {
    readonly pace: Pace
    readonly millis: number
  }) => Promise<{ readonly messages: number }>
  /** The cost of the window; the clock stops here. */
  readonly stop: (options: object) => Promise<Cpu>
  readonly memory: (options: object) => Memory
  /** The state of the process since the last call. */
  readonly loop: (options: object) => Loop
  readonly close: (options: object) => Promise<void>
}

export interface ClientApi {
  readonly connect: (options: {
    readonly dialect: DialectName
    readonly port: number
    readonly audience: Audience
    /** Numbers of this process's sockets: from `first`, `count` of them. */
    readonly first: number
    readonly count: number
    /** Whether the process reports the progress of its sockets. */
    readonly flow: boolean
    /** Whether the time of every arrival is kept. */
    readonly timed: boolean
  }) => Promise<void>
  /**
   * Completes when every socket has received exactly the messages up to this many of each of its
   * channels, byte for byte. Rejects on the first wrong byte, on a lost socket, and when no message
   * arrives any more.
   */
  readonly arrive: (options: { readonly messages: number }) => Promise<Arrival>
  /** Opens more sockets, which read nothing from now on. `messages` were published before. */
  readonly stall: (options: { readonly count: number; readonly messages: number }) => Promise<void>
  /**
   * Lets them read, and completes when each of them either has every message up to this many or
   * knows exactly which ones it misses; then closes them.
   */
  readonly recover: (options: { readonly messages: number }) => Promise<Recovery>
  /** Arrival times of messages, one per message and socket, since they were asked for last. */
  readonly times: (options: object) => Times
  /**
   * After an arrival: completes 20 ms later, and rejects when more bytes arrived, be it a part of a
   * frame.
   */
  readonly settle: (options: object) => Promise<void>
  /** Never completes; rejects on the first wrong byte or lost socket. */
  readonly watch: (options: object) => Promise<never>
  readonly close: (options: object) => Promise<void>
}

export interface Arrival {
  /** Bytes from the wire since the last arrival, all sockets together. */
  readonly bytes: number
  /** WebSocket messages that carried them. */
  readonly frames: number
}

export interface Recovery {
  /** Messages that the server reported missing, of all sockets together. */
  readonly missed: number
}

export interface Times {
  /** The first message of `micros`. */
  readonly first: number
  /** Microseconds of the monotonic clock; all sockets of message `first`, then of the next. */
  readonly micros: ReadonlyArray<ReadonlyArray<number>>
}

export interface WritersApi {
  /** Opens this many sessions, each with this transaction. */
  readonly open: (options: {
    readonly databaseUrl: string
    readonly writers: number
    readonly statement: string
  }) => Promise<void>
  /**
   * Lets all of them commit for this time, each as fast as it can or at a rate, evenly or at random;
   * returns the number of commits in this time, and of all: those under way at the end count only
   * among all.
   */
  readonly run: (options: {
    readonly millis: number
    readonly perSecond?: number
    readonly random?: boolean
  }) => Promise<{ readonly perSecond: number; readonly commits: number }>
  readonly close: (options: object) => void
}

export interface ReadersApi {
  /** Starts readers of the outbox, each with a follower of one channel. */
  readonly open: (options: {
    readonly databaseUrl: string
    readonly nodes: number
    readonly channel: string
    /** Milliseconds between two looks, of readers that only poll. */
    readonly poll?: number
    /** The port of a NATS server over which one of them reads for all. */
    readonly nats?: number
  }) => Promise<void>
  /** What all of them have sent and received so far. */
  readonly count: (options: object) => { readonly statements: number; readonly events: number }
  readonly close: (options: object) => Promise<void>
}

/** The cost of these notifications to the listener. */
export interface Receipt extends Cpu {
  /** Bytes of heap more than before, at the end. */
  readonly heap: number
  /** The most notifications that waited at once, where the listener has a queue. */
  readonly most?: number
}

export interface ReceiverApi {
  readonly open: (options: {
    readonly databaseUrl: string
    readonly subject: string
  }) => Promise<void>
  /**
   * Completes when this many more have arrived; rejects when one is lost, and when none arrives any
   * more.
   */
  readonly receive: (options: { readonly count: number }) => Promise<Receipt>
  /** Listens to this many more channels, on the same session. */
  readonly listenToo: (options: {
    readonly channels: number
  }) => Promise<{ readonly millis: number }>
  readonly close: (options: object) => Promise<void>
}

export interface ReturnersApi {
  /** This many clients connect and send hello. */
  readonly enter: (options: { readonly port: number; readonly clients: number }) => Promise<void>
  /** The cursor of a client that subscribes now. */
  readonly cursor: (options: { readonly channel: string }) => Promise<{ readonly cursor: string }>
  /**
   * All resume from a cursor; completes when each has exactly this many events, and all have left.
   */
  readonly resume: (options: {
    readonly channel: string
    readonly cursor: string
    readonly events: number
  }) => Promise<Crowd>
  /** Each opens this many new live channels a second; then all leave. */
  readonly openChannels: (options: {
    readonly perSecond: number
    readonly millis: number
  }) => Promise<Crowd>
  readonly leave: (options: object) => void
}

export interface ViewersApi {
  /**
   * Opens sockets, from number `first` on. Each subscribes this many times to the table, to one filter
   * after the other, or without a filter where there are 0. Completes when all have subscribed, and with
   * `state` have its rows; returns the number of rows.
   */
  readonly enter: (options: {
    readonly port: number
    readonly first: number
    readonly count: number
    readonly subscriptions: number
    /** How many different filters all sockets have. */
    readonly filters: number
    readonly state: boolean
  }) => Promise<{ readonly rows: number }>
  /** Completes when exactly this many events have arrived since the opening, all sockets together. */
  readonly arrive: (options: { readonly events: number }) => Promise<void>
}

export interface Crowd {
  readonly millis: number
  /** The number of each answer: codes of errors, and `subscribed`. */
  readonly answers: Readonly<Record<string, number>>
}

export interface ProbeApi {
  /** Opens a socket that subscribes to these channels, and the sessions that publish to channel 0. */
  readonly open: (options: {
    readonly databaseUrl: string
    readonly port: number
    readonly channels: ReadonlyArray<string>
  }) => Promise<void>
  /**
   * Publishes for this time, in irregular steps of 7 to 19 ms, or at random at a rate; with `hold` while
   * another transaction that has written is open. Rejects when a message does not arrive.
   */
  readonly run: (options: {
    readonly millis: number
    readonly hold: boolean
    readonly perSecond?: number
  }) => Promise<{
    /** Microseconds from the answer to the commit until the arrival. */
    readonly latencies: ReadonlyArray<number>
  }>
  /**
   * Completes when this many events of other channels than 0 have arrived since the opening.
   * Rejects when more arrive, and when none arrives any more.
   */
  readonly arrive: (options: { readonly events: number }) => Promise<void>
  readonly close: (options: object) => void
}

export interface NotifierApi {
  readonly connect: (options: { readonly databaseUrl: string }) => Promise<void>
  /** Sends messages `from` to `from + count` of channel 0; returns when each was sent. */
  readonly notify: (options: {
    readonly from: number
    readonly count: number
    readonly perSecond: number
    readonly bytes: number
    readonly format: "text" | "socket.io"
  }) => Promise<{
    /** Microseconds of the monotonic clock, right before the statement was sent. */
    readonly times: ReadonlyArray<number>
  }>
  readonly close: (options: object) => Promise<void>
}

/** A client library, as K measures it. */
export type LibraryName =
  | "effect-realtime"
  | "effect-realtime-schema"
  | "socket.io-client"
  | "centrifuge"

export interface FeederApi {
  readonly open: (options: { readonly library: LibraryName }) => Promise<{ readonly port: number }>
  /** Sends events `from` to `from + count`, `together` of them in each turn of the event loop. */
  readonly feed: (options: {
    readonly from: number
    readonly count: number
    readonly perSecond: number
    readonly together: number
    /** Bytes of one payload. */
    readonly bytes: number
  }) => Promise<void>
}

export interface ListenerApi {
  /** Connects and subscribes. */
  readonly open: (options: {
    readonly library: LibraryName
    readonly port: number
    readonly bytes: number
  }) => Promise<void>
  /** The clock of the window starts here. */
  readonly start: (options: { readonly profile?: string }) => Promise<void>
  /**
   * Completes when the handler has received exactly the events up to this one, in order, with every
   * field. Rejects on the first that differs, on a gap, and when no event arrives any more.
   */
  readonly arrive: (options: { readonly events: number }) => Promise<void>
  /** The cost of the window; the clock stops here. */
  readonly stop: (options: object) => Promise<Cpu>
}
