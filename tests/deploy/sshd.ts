/**
 * A real sshd in a network and mount namespace of its own, and an `ssh` on the PATH that enters the network namespace. Effects:
 * starts processes, makes a temporary folder; `stop` takes everything away again.
 */
import type { SshOptions } from "../../lib/deploy/ssh.ts";
import { makeControlDirectory } from "../../lib/deploy/control_directory.ts";
import { SshRunner } from "../../lib/deploy/ssh.ts";
import type { SshTarget } from "../../lib/fleet.ts";
import { cacheDirectory } from "../lab/images.ts";

/** The sshd to test against: `MOBULA_TEST_SSHD`, or the system's, or the lab's. */
export const SSHD = findSshd();
/** Namespaces need root. */
export const CAN_RUN_SSHD = SSHD !== undefined && Deno.uid() === 0;

function findSshd(): string | undefined {
  const places = [Deno.env.get("MOBULA_TEST_SSHD"), "/usr/sbin/sshd", "/usr/local/sbin/sshd", ...sshdOfLab()];
  return places.find((path): path is string => path !== undefined && isFile(path));
}

/** A machine that has run the lab has an sshd in the lab's image of Debian 12, which runs on Debian 12 itself. */
function sshdOfLab(): string[] {
  const cache = cacheDirectory();
  try {
    const images = [...Deno.readDirSync(cache)].filter(({ name }) => /^bare-bookworm-[0-9a-f]+$/.test(name));
    return images.map(({ name }) => `${cache}/${name}/root/usr/sbin/sshd`);
  } catch {
    return [];
  }
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** A running sshd on 127.0.0.1 and 198.51.100.2 of its own namespace, port 22; `/opt` there is a memory disk. */
export class Sshd {
  readonly directory: string;
  readonly #process: Deno.ChildProcess;
  readonly #path: string;
  readonly #runners: SshRunner[] = [];

  private constructor(directory: string, process: Deno.ChildProcess, path: string) {
    this.directory = directory;
    this.#process = process;
    this.#path = path;
  }

  /** `optMiB`: size of the memory disk on `/opt`. */
  static async start(optMiB = 24): Promise<Sshd> {
    const directory = await makeControlDirectory();
    for (const name of ["host", "other", "user"]) {
      await sh(`ssh-keygen -q -t ed25519 -N '' -C test -f ${directory}/${name}`);
    }
    await Deno.writeTextFile(`${directory}/sshd_config`, sshdConfig(directory));
    await Deno.writeTextFile(`${directory}/ssh_config`, sshConfig(directory));
    const hostKey = (await Deno.readTextFile(`${directory}/host.pub`)).split(" ").slice(0, 2).join(" ");
    await Deno.writeTextFile(`${directory}/known_hosts`, `127.0.0.1,198.51.100.2 ${hostKey}\n`);
    // A login shell without the startup files of this machine's user: they may take a second for each command.
    const users = (await Deno.readTextFile("/etc/passwd")).replace(/^root:.*\n/m, "");
    await Deno.writeTextFile(
      `${directory}/passwd`,
      `root:x:0:0:root:${directory}:/bin/bash\n${users}sshd:x:65533:65534::/:/bin/false\n`,
    );
    const script = `set -e; ip link set lo up
      ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up
      ip address add 198.51.100.2/24 dev eth0; ip route add default via 198.51.100.1; ip route add unreachable 192.0.2.0/24
      mount --bind ${directory}/passwd /etc/passwd; mount -t tmpfs tmpfs /run
      mkdir -p /run/sshd /run/systemd/system; mount -t tmpfs -o size=${optMiB}m tmpfs /opt; exec ${SSHD} -D -e -f ${directory}/sshd_config`;
    const process = new Deno.Command("unshare", {
      args: ["--net", "--mount", "--propagation", "private", "--", "sh", "-c", script],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await Deno.mkdir(`${directory}/bin`);
    const wrapper = `#!/bin/sh\nexec nsenter --net=/proc/${process.pid}/ns/net /usr/bin/ssh "$@"\n`;
    await Deno.writeTextFile(`${directory}/bin/ssh`, wrapper, { mode: 0o755 });
    const path = Deno.env.get("PATH")!;
    Deno.env.set("PATH", `${directory}/bin:${path}`);
    const sshd = new Sshd(directory, process, path);
    await sshd.#ready();
    return sshd;
  }

  /** A runner for it; ended by `stop`. */
  runner(target: Partial<SshTarget> = {}, options: Partial<SshOptions> = {}): SshRunner {
    const runner = new SshRunner("web1", { host: "127.0.0.1", become: false, ...target }, {
      controlDirectory: this.directory,
      configFile: `${this.directory}/ssh_config`,
      ...options,
    });
    this.#runners.push(runner);
    return runner;
  }

  /** Process ids of the sessions' sshd processes, not of the listening one. */
  async sessions(): Promise<number[]> {
    const children = `/proc/${this.#process.pid}/task/${this.#process.pid}/children`;
    return (await Deno.readTextFile(children)).trim().split(" ").filter((pid) => pid !== "").map(Number);
  }

  /** Runs a script inside sshd's mount and network namespaces. */
  inside(script: string): Promise<string> {
    return sh(
      `nsenter --mount=/proc/${this.#process.pid}/ns/mnt --net=/proc/${this.#process.pid}/ns/net sh -c '${script}'`,
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.#runners.map((runner) => runner.close()));
    for (const pid of await this.sessions()) kill(pid, "SIGKILL");
    kill(this.#process.pid, "SIGKILL");
    await this.#process.status;
    Deno.env.set("PATH", this.#path);
    await Deno.remove(this.directory, { recursive: true });
  }

  async #ready(): Promise<void> {
    const deadline = Date.now() + 10_000;
    while (true) {
      const runner = this.runner();
      try {
        return await runner.connect();
      } catch (error) {
        if (Date.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      } finally {
        await runner.close();
      }
    }
  }
}

/** Sends a signal to a process that may have ended. */
export function kill(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

/** Runs a script here and gives what it printed. */
export async function sh(script: string): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  if (!success) throw new Error(`${script}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

function sshdConfig(directory: string): string {
  return `ListenAddress 0.0.0.0:22
HostKey ${directory}/host
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
AuthorizedKeysFile ${directory}/user.pub
`;
}

function sshConfig(directory: string): string {
  return `Host *
  User root
  IdentityFile ${directory}/user
  IdentitiesOnly yes
  UserKnownHostsFile ${directory}/known_hosts
  GlobalKnownHostsFile /dev/null
  ControlMaster auto
  ControlPath ${directory}/users-own-%C
  ControlPersist yes
  RemoteCommand uptime
  LocalForward 9999 localhost:9999
`;
}
