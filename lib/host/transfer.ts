/**
 * Real bytes over real connections between two hosts: a listener that says which host it is, takes bytes and gives as many back, and
 * the one who asks. Effects: TCP connections.
 */
import { VERIFY_PORT } from "../address.ts";
import type { DialOutcome, DialTarget } from "./protocol.ts";

/** Bytes in each direction: dozens of full segments. */
const BYTES = 64 * 1024;
/** Milliseconds for a connection to stand, and for the whole exchange. */
const CONNECT_PATIENCE = 3_000;
const PATIENCE = 8_000;
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

async function serve(connection: Deno.TcpConn, id: number): Promise<void> {
  await limited(connection, PATIENCE, async () => {
    await writeAll(connection, new TextEncoder().encode(greeting(id)));
    await readBytes(connection, BYTES);
    await writeAll(connection, new Uint8Array(BYTES));
  });
}

/** Ten bytes whatever the id, so that whoever reads them knows when they are complete. */
function greeting(id: number): string {
  return `host ${String(id).padStart(5, "0")}`;
}

/** Exchanges bytes with a listener; what goes wrong is told, not thrown. */
export async function dial(
  { address, id }: Omit<DialTarget, "from">,
  port = VERIFY_PORT,
): Promise<DialOutcome> {
  const start = performance.now();
  let got = 0;
  let greeted = false;
  try {
    const connection = await connectWithin(CONNECT_PATIENCE, address, port);
    await limited(connection, PATIENCE, async () => {
      const said = new TextDecoder().decode(await readBytes(connection, greeting(id).length));
      greeted = true;
      if (said !== greeting(id)) throw new Error(`${JSON.stringify(said)} answers; expected host ${id}`);
      await Promise.all([
        writeAll(connection, new Uint8Array(BYTES)),
        readBytes(connection, BYTES, (bytes) => got = bytes),
      ]);
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

/** Closes the connection at the end, or when the time is over, which ends whatever waits for it. */
async function limited(
  connection: Deno.TcpConn,
  milliseconds: number,
  work: () => Promise<void>,
): Promise<void> {
  let late = false;
  const close = () => {
    try {
      connection.close();
    } catch {
      // It is closed.
    }
  };
  const timer = setTimeout(() => {
    late = true;
    close();
  }, milliseconds);
  try {
    await work();
  } catch (error) {
    throw late ? new Late(`connected, but silent for ${milliseconds / 1000} s`) : error;
  } finally {
    clearTimeout(timer);
    close();
  }
}

async function readBytes(
  connection: Deno.TcpConn,
  count: number,
  onBytes: (bytes: number) => void = () => {},
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

async function writeAll(connection: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
}
