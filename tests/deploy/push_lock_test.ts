/** One push at a time on a host: who has it is told, who has died is replaced, and nothing is left behind. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { HostLock } from "../../lib/deploy/push_lock.ts";
import { push } from "../../lib/deploy/push.ts";
import type { SshRunner } from "../../lib/deploy/ssh.ts";
import { LockedError } from "../../lib/errors.ts";
import { PlainProgress } from "../../lib/ui/progress.ts";
import { CAN_RUN_SSHD, Sshd } from "./sshd.ts";

/** Calls until it is true, or fails with what it was. */
async function eventually(what: string, probe: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!await probe()) {
    if (Date.now() > deadline) throw new Error(`Cannot wait any longer for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

interface Bench {
  readonly sshd: Sshd;
  /** A connection and a lock of a push with this name. */
  lockOf(id: string, phase?: string): Promise<{ ssh: SshRunner; lock: HostLock; lost: () => boolean }>;
  /** What lies in /run/mobula. */
  left(): Promise<string>;
}

function lockTest(name: string, test: (bench: Bench) => Promise<void>): void {
  Deno.test({
    name,
    ignore: !CAN_RUN_SSHD,
    fn: async () => {
      const sshd = await Sshd.start(500);
      const locks: HostLock[] = [];
      const left = async () => (await sshd.inside("ls /run/mobula 2>/dev/null || true")).trim();
      try {
        await test({
          sshd,
          left,
          lockOf: async (id, phase = "stage") => {
            const controlDirectory = `${sshd.directory}/${id}`;
            await Deno.mkdir(controlDirectory);
            const ssh = sshd.runner({}, { controlDirectory });
            await ssh.connect();
            let lost = false;
            const who = JSON.stringify({
              who: `root@${id}`,
              pid: 7,
              fleet: `/fleet/${id}`,
              since: "2026-12-01T10:00:00Z",
            });
            const lock = new HostLock(ssh, { push: id, who, phase: () => phase, onLost: () => lost = true });
            locks.push(lock);
            return { ssh, lock, lost: () => lost };
          },
        });
      } finally {
        await Promise.all(locks.map((lock) => lock.release()));
        await sshd.stop();
      }
    },
  });
}

lockTest(
  "HostLock: the second is told who has it, and has it when the first gives it back",
  async (bench) => {
    const [first, second] = [await bench.lockOf("first"), await bench.lockOf("second")];
    assertEquals(await first.lock.take(), { taken: true });
    const answer = await second.lock.take();
    assert(!answer.taken);
    const { who, pid, fleet, since } = answer.other!.owner;
    assertEquals([who, pid, fleet, since], ["root@first", 7, "/fleet/first", "2026-12-01T10:00:00Z"]);
    assert(answer.other!.silent <= 10 && answer.other!.lease === 60, Deno.inspect(answer));
    await first.lock.release();
    assertEquals(await second.lock.take(), { taken: true });
    await second.lock.release();
    assertEquals(await bench.left(), "");
    assertEquals(
      await bench.sshd.inside("ls -d /run/mobula 2>&1 || true"),
      "ls: cannot access '/run/mobula': No such file or directory\n",
    );
  },
);

lockTest(
  "HostLock: a connection that ends in the middle leaves a lock that the next one takes over",
  async (bench) => {
    const [first, second] = [await bench.lockOf("first"), await bench.lockOf("second")];
    await first.lock.take();
    await first.ssh.close();
    let answer = await second.lock.take();
    await eventually(
      "the lock to be free",
      async () => answer.taken || (answer = await second.lock.take()).taken,
    );
    assert(answer.taken);
    assertEquals([answer.other?.owner.who, answer.other?.lease], ["root@first", 0]);
    // Back from the dead, it may not go on.
    await first.ssh.connect();
    const again = await first.lock.take();
    assert(!again.taken);
  },
);

lockTest(
  "HostLock: a connection that is closed on purpose keeps the lock, and the next one of the same push goes on",
  async (bench) => {
    const [first, second] = [await bench.lockOf("first", "activate"), await bench.lockOf("second")];
    await first.lock.take();
    first.lock.expectSilence();
    await eventually(
      "the word",
      async () => (await bench.sshd.inside("cat /run/mobula/push.beat")).includes(" 60"),
    );
    await first.ssh.close();
    await eventually("the session to end", async () => (await bench.sshd.sessions()).length === 1);
    assertEquals((await second.lock.take()).taken, false);
    await first.ssh.connect();
    assertEquals(await first.lock.take(), { taken: true });
    // A lock that outlived its connection is given back over the next one.
    await first.ssh.connect();
    await first.lock.release();
    assertEquals(await bench.left(), "");
  },
);

lockTest(
  "HostLock: silence for longer than the lease is death, and the silent one hears of it",
  async (bench) => {
    const [first, second] = [await bench.lockOf("first"), await bench.lockOf("second")];
    await first.lock.take();
    first.lock.keep();
    await bench.sshd.inside('echo "1 60" >/run/mobula/push.beat');
    const answer = await second.lock.take();
    assert(answer.taken, Deno.inspect(answer));
    assertEquals(answer.other?.owner.who, "root@first");
    await eventually("the first to hear of it", first.lost);
    assertEquals((await bench.sshd.inside("head -n 1 /run/mobula/push.lock")).trim(), "second.1");
  },
);

lockTest(
  "HostLock: a lock known to be dead is taken at once; half a lock is no reason to fail",
  async (bench) => {
    const [first, second, third] = [
      await bench.lockOf("first"),
      await bench.lockOf("second"),
      await bench.lockOf("third"),
    ];
    await first.lock.take();
    const answer = await second.lock.take("first.1");
    assert(answer.taken && answer.other?.owner.who === "root@first", Deno.inspect(answer));
    await bench.sshd.inside("echo x.1 >/run/mobula/push.lock; : >/run/mobula/push.beat");
    assertEquals((await third.lock.take()).taken, true);
  },
);

lockTest(
  "HostLock: who keeps a lock on a folder that everybody can open blocks nobody",
  async (bench) => {
    const { lock } = await bench.lockOf("first");
    // As any user of the host can.
    await bench.sshd.inside("mkdir -p /run/mobula");
    const nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    await bench.sshd.inside(
      `for what in /run /run/mobula; do ${nobody} flock "$what" sleep 20 >/dev/null 2>&1 & done; sleep 0.3`,
    );
    assertEquals((await lock.take()).taken, true);
    assertEquals(await bench.sshd.inside("stat -c %a,%u /run/mobula/push.guard"), "600,0\n");
    await lock.release();
  },
);

for (
  const [what, beat] of [
    ["a heartbeat of times to come", "99999999999 60"],
    ["a heartbeat that is none", "x;y -1"],
    ["a lease for ever", "1 99999999999"],
  ] as const
) {
  lockTest(`HostLock: ${what} does not count as alive`, async (bench) => {
    const [first, second] = [await bench.lockOf("first"), await bench.lockOf("second")];
    await first.lock.take();
    await bench.sshd.inside(`echo "${beat}" >/run/mobula/push.beat`);
    const answer = await second.lock.take();
    assert(answer.taken, Deno.inspect(answer));
  });
}

const SLOW_HOST = `#!/bin/sh
[ "$2" = session ] || exit 2
while read -r line; do
  case $line in
    '{"id":1,"verb":"prepare",'*)
      echo prepare >>/opt/calls
      while [ ! -f /opt/go-on ]; do sleep 0.1; done
      echo '{"event":"error","id":1,"kind":"HostError","message":"Cannot do it"}'
      ;;
  esac
done
`;

lockTest(
  "push: the second of two is refused before it has touched anything, and told by whom",
  async ({ sshd, left }) => {
    await Deno.writeTextFile(`${sshd.directory}/program`, SLOW_HOST);
    const hosts = "all: {hosts: {198.51.100.2: {host_id: 2, hostname: web2}}}\n";
    await Deno.writeTextFile(`${sshd.directory}/hosts.yml`, hosts);
    const lines: string[] = [];
    const run = (executable: string) =>
      push(
        {
          hostsPath: `${sshd.directory}/hosts.yml`,
          limit: [],
          parallel: 20,
          reboot: true,
          keepKeys: false,
          reinstall: false,
          sshConfig: `${sshd.directory}/ssh_config`,
          acceptNewHostKeys: false,
          executable,
        },
        new PlainProgress({ verbose: true, write: (line) => lines.push(line) }),
      );
    const first = run(`${sshd.directory}/program`);
    await eventually(
      "the first to be at work",
      async () => (await sshd.inside("cat /opt/calls || true")) !== "",
    );
    const copied = await sshd.inside("sha256sum /opt/mobula/bin/mobula");
    await Deno.writeTextFile(`${sshd.directory}/other`, `${SLOW_HOST}# another version\n`);
    const error = await assertRejects(() => run(`${sshd.directory}/other`), LockedError);
    assertMatch(
      error.message,
      new RegExp(
        `^Cannot push: another push is under way: \\S+@\\S+ \\(process ${Deno.pid}, ${sshd.directory}/hosts.yml\\), since 20\\d\\d-\\S+Z; found on web2;`,
      ),
    );
    assertEquals(await sshd.inside("sha256sum /opt/mobula/bin/mobula"), copied);
    assertEquals(await sshd.inside("cat /opt/calls"), "prepare\n");
    await sshd.inside("touch /opt/go-on");
    assertEquals((await first).exitCode, 1);
    // The hash of what was copied, for the next look.
    assertEquals(await left(), "executable");
  },
);

lockTest(
  "HostLock: a newer connection of the same push does not take the lock away from it",
  async (bench) => {
    const [first, second, third] = [
      await bench.lockOf("first"),
      await bench.lockOf("second"),
      await bench.lockOf("third"),
    ];
    assertEquals(await first.lock.take(), { taken: true });
    const options = { push: "first", who: "{}", phase: () => "stage", onLost: () => {} };
    const newer = new HostLock(second.ssh, options);
    // Its first holder would bear the number of the one that it replaces.
    for (let count = 0; count < 2; count++) assertEquals((await newer.take()).taken, true);
    await first.lock.release();
    assertEquals(first.lost(), false);
    assertEquals((await third.lock.take()).taken, false);
    await newer.release();
  },
);
