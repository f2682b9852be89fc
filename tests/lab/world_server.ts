/**
 * The world's web server, a program of its own in the lab's underlay namespace: `/` answers with the client's address, everything
 * else is a file below the directory given as the only argument. Reads files, listens on TCP port 80.
 */
const [directory] = Deno.args;

async function answer(request: Request, client: string): Promise<Response> {
  const path = decodeURIComponent(new URL(request.url).pathname);
  if (path === "/") return new Response(`${client}\n`);
  if (path.split("/").includes("..")) return new Response("bad path\n", { status: 400 });
  try {
    const file = await Deno.open(`${directory}${path}`);
    const { size, isFile, mtime } = await file.stat();
    if (!isFile) throw new Deno.errors.NotFound();
    const headers = { "content-length": String(size), "last-modified": (mtime ?? new Date()).toUTCString() };
    return new Response(file.readable, { headers });
  } catch {
    return new Response("not found\n", { status: 404 });
  }
}

if (import.meta.main) {
  Deno.serve(
    { hostname: "0.0.0.0", port: 80, onListen: () => {} },
    (request, { remoteAddr }) => answer(request, remoteAddr.hostname),
  );
}
