/**
 * Watches from the deployer whether a host's SSH server greets at its external address. Starts a process in the lab.
 */
import type { Lab } from "../lab/lab.ts";
import { killProcess, start } from "../lab/process.ts";
import { waitFor } from "../lab/wait.ts";

/** A watch that goes on. */
export interface SshWatch {
  /** Milliseconds since the greeting was last heard. */
  readonly silence: () => number;
  /** The longest silence since the watch began or was last asked, milliseconds. */
  readonly longest: () => number;
  readonly stop: () => void;
}

const WATCH = `while :; do
  if timeout 1 bash -c 'exec 3<>"/dev/tcp/$0/22" && read -r -t 1 -u 3 line && [[ $line == SSH-* ]]' "$1" 2>/dev/null
  then echo "\${EPOCHREALTIME/[.,]/}"; fi
  sleep 0.2
done`;

/** Starts it; resolves after the first greeting. */
export async function watchSsh(lab: Lab, address: string): Promise<SshWatch> {
  const log = `${lab.directory}/ssh-watch-${crypto.randomUUID()}.log`;
  const argv = lab.deployer.enter(["bash", "-c", WATCH, "bash", address]);
  const process = await start(argv, { cgroup: lab.state.cgroup, log });
  const heard = () =>
    Deno.readTextFileSync(log).split("\n").filter((line) => line !== "").map((line) => Number(line) / 1000);
  await waitFor(`the SSH server at ${address}`, () => heard().length > 0);
  const stop = () => {
    killProcess(process);
    Deno.removeSync(log);
  };
  const longest = () => {
    const times = [...heard(), Date.now()];
    return Math.max(...times.slice(1).map((time, index) => time - times[index]!));
  };
  return { silence: () => Date.now() - heard().at(-1)!, longest, stop };
}
