/**
 * A small client of QEMU's machine protocol: one command on one connection. Connects to the machine's socket.
 */

/** Gives a running machine an order, e.g. `device_del`; returns what it answered. */
export async function qmp(
  socket: string,
  command: string,
  args: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  using connection = await Deno.connect({ transport: "unix", path: socket });
  const messages = readMessages(connection);
  await messages.next();
  await order(connection, messages, "qmp_capabilities", {});
  return await order(connection, messages, command, args);
}

interface Message {
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
}

async function order(
  connection: Deno.Conn,
  messages: AsyncGenerator<Message, void>,
  command: string,
  args: Readonly<Record<string, unknown>>,
): Promise<unknown> {
  const text = JSON.stringify({ execute: command, arguments: args }) + "\n";
  await connection.write(new TextEncoder().encode(text));
  while (true) {
    const { value, done } = await messages.next();
    // A machine that was told to quit may be gone before it answers.
    if (done) return undefined;
    if (value.error !== undefined) {
      throw new Error(`Cannot order "${command}": ${value.error.desc}; expected the machine to obey`);
    }
    if ("return" in value) return value.return;
  }
}

/** One message a line; events are among them. */
async function* readMessages(connection: Deno.Conn): AsyncGenerator<Message, void> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(16_384);
  let text = "";
  while (true) {
    const end = text.indexOf("\n");
    if (end >= 0) {
      yield JSON.parse(text.slice(0, end));
      text = text.slice(end + 1);
      continue;
    }
    const count = await connection.read(buffer).catch(() => null);
    if (count === null) return;
    text += decoder.decode(buffer.subarray(0, count), { stream: true });
  }
}
