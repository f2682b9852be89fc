/**
 * What figures were measured of, and when. Runs git.
 */
import { fromFileUrl } from "@std/path";

/** Date (ISO 8601, UTC) and commit of a measurement; `+` behind the commit: the sources have changed since. */
export async function source(): Promise<{ readonly date: string; readonly commit: string }> {
  const cwd = fromFileUrl(new URL("../..", import.meta.url));
  const args = ["describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"];
  const git = new Deno.Command("git", { args, cwd, stderr: "null" });
  const commit = await git.output().then(({ stdout }) => new TextDecoder().decode(stdout).trim(), () => "");
  return { date: new Date().toISOString().slice(0, 10), commit: commit || "unknown" };
}
