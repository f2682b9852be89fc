/**
 * Real bytes over real connections between two hosts: a listener that says which host it is and gives back what it gets, and the one
 * who asks. Effects: TCP connections.
 */
import { VERIFY_PORT } from "../address.ts";
import { HostError } from "../errors.ts";
import type { DialOutcome, DialTarget } from "./protocol.ts";

/** Bytes in each direction: a dozen full segments, more than are sent without hearing of the first ones (RFC 6928). */
const BYTES = 16 * 1024;
/** What a listener of version 0.1.0 waits for before it gives anything back, and after how many milliseconds it gets that much. */
const MOST_BYTES = 64 * 1024;
const SLOW = 4_000;
/** Milliseconds for a connection to stand, for the next bytes to come or go, and for the whole exchange. */
const CONNECT_PATIENCE = 3_000;
const PATIENCE = 6_000;
const LONGEST = 30_000;
/** Connections served at once; a stranger on the access network must not exhaust the host. */
const MAX_SERVED = 1000;

/** A listener that is up. */
export interface Listening {
  readonly close: () => void;
  /** Exchanges completed so far. */
  readonly served: () => number;
}

/** Listens on one address for host `id`. */
export function listenOn(address: string, id: number, port = VERIFY_PORT): Listening {
  const listener = Deno.listen({ hostname: address, port });
  let [served, open] = [0, 0];
  const accept = async () => {
    for await (const connection of listener) {
      if (open >= MAX_SERVED) {
        connection.close();
        continue;
      }
      open++;
      serve(connection, id).then(() => void served++, () => {}).finally(() => open--);
    }
  };
  accept().catch(() => {});
  return { close: () => listener.close(), served: () => served };
}

/**
 * The same; undefined where another verification listens there for the same host, which does as well. HostError where somebody else has
 * the port, or the address is not this host's.
 */
export async function listenUnlessListening(
  address: string,
  id: number,
  port = VERIFY_PORT,
): Promise<Listening | undefined> {
  for (let round = 0;; round++) {
    try {
      return listenOn(address, id, port);
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) {
        const said = error instanceof Error ? error.message : error;
        throw new HostError(`Cannot listen on ${address}: ${said}; expected this host's address`);
      }
    }
    const outcome = await dial({ address, id }, port);
    if (!("error" in outcome)) return undefined;
    // The other verification may just have ended.
    if (round === 0) continue;
    throw new HostError(
      `Cannot listen on ${address}: another program has TCP port ${port} (${outcome.error}); expected it to be free ` +
        `for mobula verify. See "ss -ltnp" there`,
    );
  }
}

async function serve(connection: Deno.TcpConn, id: number): Promise<void> {
  await limited(connection, async (moved) => {
    await writeAll(connection, new TextEncoder().encode(greeting(id)), moved);
    const bytes = new Uint8Array(BYTES);
    for (let got = 0; got < MOST_BYTES;) {
      const read = await connection.read(bytes);
      if (read === null) return;
      got += read;
      await writeAll(connection, bytes.subarray(0, read), moved);
    }
  });
}

/** Ten bytes whatever the id, so that whoever reads them knows when they are complete. */
function greeting(id: number): string {
  return `host ${String(id).padStart(5, "0")}`;
}

/** Exchanges bytes with a listener; what goes wrong is told, not thrown. */
export async function dial(
  { address, id, patience = CONNECT_PATIENCE }: Omit<DialTarget, "from">,
  port = VERIFY_PORT,
): Promise<DialOutcome> {
  const start = performance.now();
  let got = 0;
  let greeted = false;
  try {
    const connection = await connectWithin(patience, address, port);
    await limited(connection, async (moved) => {
      const said = new TextDecoder().decode(await readBytes(connection, greeting(id).length, moved));
      greeted = true;
      if (said !== greeting(id)) throw new Error(`${JSON.stringify(said)} answers; expected host ${id}`);
      const more = setTimeout(
        () => void writeAll(connection, new Uint8Array(MOST_BYTES - BYTES)).catch(() => {}),
        SLOW,
      );
      try {
        await Promise.all([
          writeAll(connection, new Uint8Array(BYTES), moved),
          readBytes(connection, BYTES, (bytes) => {
            got = bytes;
            moved();
          }),
        ]);
      } finally {
        clearTimeout(more);
      }
    });
    return { milliseconds: Math.round((performance.now() - start) * 10) / 10 };
  } catch (error) {
    if (error instanceof Late) {
      return {
        error: greeted ? `stalled: connected, but only ${got} of ${BYTES} bytes came back` : error.message,
      };
    }
    if (error instanceof Deno.errors.ConnectionRefused) return { error: "connection refused" };
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

/** The time was over. */
class Late extends Error {}

async function connectWithin(milliseconds: number, hostname: string, port: number): Promise<Deno.TcpConn> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Late(`no connection within ${milliseconds / 1000} s`)), milliseconds);
  });
  const connecting = Deno.connect({ hostname, port });
  try {
    return await Promise.race([connecting, late]);
  } catch (error) {
    // Should it stand later after all, nobody wants it any more.
    connecting.then((connection) => connection.close(), () => {});
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Closes the connection at the end, or when too long nothing has moved or it has taken too long at all, which ends whatever waits for it.
 * A busy host or a thin line is slow, not broken.
 */
async function limited(
  connection: Deno.TcpConn,
  work: (moved: () => void) => Promise<void>,
): Promise<void> {
  let late = false;
  const close = () => {
    try {
      connection.close();
    } catch {
      // It is closed.
    }
  };
  const giveUp = () => {
    late = true;
    close();
  };
  const longest = setTimeout(giveUp, LONGEST);
  let idle = setTimeout(giveUp, PATIENCE);
  const moved = () => {
    clearTimeout(idle);
    idle = setTimeout(giveUp, PATIENCE);
  };
  try {
    await work(moved);
  } catch (error) {
    throw late ? new Late(`connected, but silent for ${PATIENCE / 1000} s`) : error;
  } finally {
    clearTimeout(longest);
    clearTimeout(idle);
    close();
  }
}

async function readBytes(
  connection: Deno.TcpConn,
  count: number,
  onBytes: (got: number) => void,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(count);
  let got = 0;
  while (got < count) {
    const read = await connection.read(bytes.subarray(got));
    if (read === null) throw new Error(`closed after ${got} of ${count} bytes`);
    got += read;
    onBytes(got);
  }
  return bytes;
}

async function writeAll(
  connection: Deno.TcpConn,
  bytes: Uint8Array,
  moved: () => void = () => {},
): Promise<void> {
  for (let sent = 0; sent < bytes.length;) {
    sent += await connection.write(bytes.subarray(sent));
    moved();
  }
}
