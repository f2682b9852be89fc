/**
 * One push at a time: a lock on every host of a push, held by a session of the push's own connection, with a heart that must beat. What
 * is done on a host without a deployer takes the same lock.
 * Effects: on the hosts through their connections, or on this one, `/run/mobula/push.lock`; reads what this process is called here.
 */
import { HostError, LockedError, TransportError } from "../errors.ts";
import { pause } from "../pause.ts";
import type { Output } from "../step.ts";
import { runCommand } from "./command.ts";
import { look } from "./look.ts";
import type { Phase } from "./phases.ts";
import { type HostRun, type PushRun } from "./run.ts";
import type { ExecOptions } from "./ssh.ts";

/** Milliseconds between two heartbeats. */
const BEAT = 3_000;
/** Seconds for which a lock counts after its last heartbeat. */
const LEASE = 60;
/** Seconds: an uninstallation takes the lock away by itself when it has ended. */
const LONG_LEASE = 180;
/** Seconds of silence after which it is worth waiting whether a lock's owner is still there. */
const SILENCE = 10;
/** Milliseconds between two looks at such a lock. */
const REST = 1_000;
/** Seconds for which two that take a lock at the same moment wait for each other. */
const GUARD_WAIT = 10;
/** Milliseconds until a host has said whether the lock is to be had; and for which one is waited for whose owner may have died. */
const ANSWER_TIMEOUT = 30_000;
const TAKEOVER_TIMEOUT = (LONG_LEASE + 20) * 1000;
/** Milliseconds that giving back may take. */
const RELEASE_PATIENCE = 10_000;
/** Phases in which connections are closed on purpose: their end does not mean the end of the push. */
const RECONNECTING = ["activate", "confirm", "reboot", "uninstall"];

/**
 * `$1` = this holder (push.number), `$2` = who it is, `$3` = lease, `$4` = what the end of the connection means, `$5` = a lock that
 * is known to be dead. Says `taken`, before it perhaps `left …`, or `held …`; then reads `beat LEASE MEANING` and `release`, and says
 * `lost` when another push has the lock; a newer connection of the same one is none. The clock is that of the time since boot.
 */
const HOLD = `me=$1 who=$2 lease=$3 meaning=$4 dead=$5
dir=/run/mobula; lock=$dir/push.lock; beat=$dir/push.beat; guard=$dir/push.guard
now() { read -r up _ </proc/uptime; echo "\${up%%.*}"; }
owner() { read -r owner 2>/dev/null <"$lock" || owner=; }
# Written over, not anew: nobody who reads it finds it empty. A shorter line leaves the end of a longer one as an empty one.
beats() { printf '%s %s\\n' "$(now)" "$lease" 1<>"$beat"; }
# Root alone can open it, so that nobody else can keep it. One that was removed while it was waited for is not the one that counts.
tries=0
until
  { [ -d "$dir" ] || mkdir -p "$dir"; } && (umask 077; : >>"$guard") && exec 9>>"$guard" && flock -w ${GUARD_WAIT} 9 || exit 1
  [ "$guard" -ef /proc/self/fd/9 ]
do
  tries=$((tries + 1))
  [ $tries -lt 20 ] || exit 1
done
if [ -f "$lock" ]; then
  { read -r owner; read -r text; } <"$lock"
  last=0 rest=0; [ -f "$beat" ] && read -r last rest <"$beat"
  case $last$rest in *[!0-9]*) last=0 rest=0 ;; esac
  [ "\${rest:=0}" -le ${LONG_LEASE} ] || rest=${LONG_LEASE}
  silent=$(($(now) - \${last:-0}))
  # A heartbeat of times to come is none.
  [ "$silent" -ge 0 ] || silent=$((rest + 1))
  if [ "\${owner%.*}" != "\${me%.*}" ]; then
    if [ "$silent" -le "$rest" ] && [ "$owner" != "$dead" ]; then echo "held $silent $rest $owner $text"; exit 0; fi
    echo "left $silent $rest $owner $text"
  fi
fi
printf '%s\\n%s\\n' "$me" "$who" >"$lock.new.$$" && mv "$lock.new.$$" "$lock" || exit 1
# Nobody else reads or writes it as long as the guard is held.
printf '%s %s\\n' "$(now)" "$lease" >"$beat" || exit 1
exec 9<&-
echo taken
while read -r word seconds end; do
  lease=$seconds meaning=$end
  owner
  [ "$owner" = "$me" ] || { [ "$owner" = "" ] || [ "\${owner%.*}" = "\${me%.*}" ] || echo lost; exit 0; }
  [ "$word" = release ] && { rm -f "$lock" "$beat" "$guard"; set -- "$dir"/*; [ -e "$1" ] || rmdir "$dir" 2>/dev/null; exit 0; }
  beats
done
owner
[ "$meaning" = gone ] && [ "$owner" = "$me" ] && { lease=0; echo "0 0" >"$beat"; }
exit 0`;

/** Who holds a lock, as far as it tells. */
interface Owner {
  /** `root@laptop`. */
  readonly who: string;
  readonly pid: number;
  /** The fleet's file there. */
  readonly fleet: string;
  /** ISO 8601, UTC. */
  readonly since: string;
  /** Kernel and process, so that a push on the same machine can tell whether it is still there. */
  readonly process: string;
}

/** What the host says to somebody who wants the lock. */
interface Answer {
  readonly taken: boolean;
  /** Who has it, or had it and has died. */
  readonly other?: Seen;
}

interface Seen {
  /** Seconds since its last heartbeat, and for how many it counts. */
  readonly silent: number;
  readonly lease: number;
  /** The holder's number. */
  readonly holder: string;
  readonly owner: Owner;
}

/** A host's shell: at the other end of a connection, which may be replaced by a newer one, or right here. */
interface Reach {
  readonly connected: boolean;
  /** How many connections were made so far. */
  readonly connections: number;
  readonly exec: (
    argv: readonly string[],
    options: Pick<ExecOptions, "stdin" | "onLine" | "milliseconds">,
  ) => Promise<Output>;
}

/** This machine: the search path is the one of a host's programs. */
const HERE: Reach = {
  connected: true,
  connections: 0,
  exec: ([program = "", ...args], options) =>
    runCommand(program, args, { ...options, env: { LC_ALL: "C", PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } }),
};

/** The lock of one host, from the moment it is taken. */
export class HostLock {
  readonly #ssh: Reach;
  readonly #push: string;
  readonly #who: string;
  readonly #phase: () => string;
  readonly #onLost: () => void;
  #holders = 0;
  #channel: Channel | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** The heartbeat under way: what gives the lock back must not meet one that takes it anew. */
  #tending: Promise<void> | undefined;

  constructor(ssh: Reach, { push, who, phase, onLost }: LockOptions) {
    this.#ssh = ssh;
    this.#push = push;
    this.#who = who;
    this.#phase = phase;
    this.#onLost = onLost;
  }

  /** Takes the lock unless another push has it; `dead` is a holder that is known to have ended. */
  async take(dead = ""): Promise<Answer> {
    const channel = new Channel(this.#ssh, [
      ...["sh", "-c", HOLD, "sh", `${this.#push}.${++this.#holders}`, this.#who],
      ...[String(LEASE), this.#meaning(), dead],
    ], this.#onLost);
    const answer = await channel.answer;
    if (!answer.taken) return answer;
    this.#channel?.close();
    this.#channel = channel;
    return answer;
  }

  /** From now on the heart beats. */
  keep(): void {
    this.#timer ??= setInterval(() => {
      this.#tending ??= this.#tend().finally(() => this.#tending = undefined);
    }, BEAT);
  }

  /** Says now that the connection is about to be closed, and that this is not the end. */
  expectSilence(): void {
    this.#channel?.write(`beat ${LEASE} stays`);
  }

  /** The last word, for longer: the host itself takes the lock away. */
  leave(): void {
    this.#stop();
    this.#channel?.write(`beat ${LONG_LEASE} stays`);
  }

  /** Gives the lock back, where the host can be reached; over a connection that is newer than the lock it is taken once more. */
  async release(): Promise<void> {
    this.#stop();
    await within(RELEASE_PATIENCE, this.#tending);
    if (this.#ssh.connected) {
      if (!this.#isLive()) await this.take().catch(() => {});
      this.#channel?.write("release");
      await within(RELEASE_PATIENCE, this.#channel?.ended);
    }
    this.#channel?.close();
  }

  #isLive(): boolean {
    return this.#channel?.isLive(this.#ssh) ?? false;
  }

  #stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #meaning(): string {
    return RECONNECTING.includes(this.#phase()) ? "stays" : "gone";
  }

  /** A heartbeat; over a new connection the lock is taken anew. */
  async #tend(): Promise<void> {
    if (this.#isLive()) return this.#channel?.write(`beat ${LEASE} ${this.#meaning()}`);
    this.#channel?.close();
    if (!this.#ssh.connected) return;
    try {
      const answer = await this.take();
      if (!answer.taken) this.#onLost();
    } catch (error) {
      // The connection is gone again: the next beat tries once more.
      if (!(error instanceof TransportError || error instanceof HostError)) throw error;
    }
  }
}

/** What all locks of a push have in common. */
interface LockOptions {
  /** A word that no other push has. */
  readonly push: string;
  readonly who: string;
  /** Name of the present phase. */
  readonly phase: () => string;
  readonly onLost: () => void;
}

/** A session on a host that reads lines from here until one of us ends. */
class Channel {
  readonly answer: Promise<Answer>;
  readonly ended: Promise<void>;
  readonly #connection: number;
  #input: ReadableStreamDefaultController<Uint8Array> | undefined;

  constructor(ssh: Reach, argv: readonly string[], onLost: () => void) {
    this.#connection = ssh.connections;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    this.answer = promise;
    const stdin = new ReadableStream<Uint8Array>({
      start: (input) => void (this.#input = input),
      // Nobody reads any more.
      cancel: () => void (this.#input = undefined),
    });
    let left: Seen | undefined;
    const onLine = (line: string) => {
      const [word = "", ...rest] = line.split(" ");
      if (word === "taken") resolve({ taken: true, ...(left ? { other: left } : {}) });
      if (word === "left") left = parseSeen(rest);
      if (word === "held") resolve({ taken: false, other: parseSeen(rest) });
      if (word === "lost") onLost();
      // Nothing more will be read there.
      if (word === "held" || word === "lost") this.close();
    };
    const timer = setTimeout(() => {
      reject(
        new HostError(
          `Cannot lock host: no answer within ${
            ANSWER_TIMEOUT / 1000
          } s; expected one. Look what keeps /run/mobula there`,
        ),
      );
      this.close();
    }, ANSWER_TIMEOUT);
    promise.finally(() => clearTimeout(timer)).catch(() => {});
    this.ended = ssh.exec(argv, { stdin, onLine, milliseconds: Infinity }).then(
      ({ code, stderr }) =>
        reject(
          new HostError(
            `Cannot lock host: ended with ${code} (${stderr.trim()}); expected /run/mobula to be writable, and nobody else to take a lock there`,
          ),
        ),
      reject,
    ).finally(() => this.close());
    // Whoever has taken it does not ask again.
    promise.catch(() => {});
  }

  /** Whether somebody still reads, over the present connection. */
  isLive(ssh: Reach): boolean {
    return this.#input !== undefined && ssh.connected && ssh.connections === this.#connection;
  }

  write(line: string): void {
    this.#input?.enqueue(new TextEncoder().encode(`${line}\n`));
  }

  close(): void {
    const input = this.#input;
    this.#input = undefined;
    try {
      input?.close();
    } catch {
      // It has ended by itself.
    }
  }
}

function parseSeen([silent = "", lease = "", holder = "", ...text]: readonly string[]): Seen {
  const seconds = (text: string) => Math.min(Math.max(Number(text) || 0, 0), LONG_LEASE);
  return {
    silent: seconds(silent),
    lease: seconds(lease),
    holder: holder.slice(0, 100),
    owner: parseOwner(text.join(" ")),
  };
}

/** Another push wrote it; what it says is printed. */
function parseOwner(text: string): Owner {
  let json: Partial<Record<keyof Owner, unknown>> = {};
  try {
    json = Object(JSON.parse(text));
  } catch {
    // Half a line: then nothing is known of it.
  }
  const word = (value: unknown) => String(value ?? "unknown").replace(/[^\x20-\x7e]/g, "?").slice(0, 200);
  return {
    who: word(json.who),
    pid: Number(json.pid) || 0,
    fleet: word(json.fleet),
    since: /^[\d:TZ.-]{1,30}$/.test(word(json.since)) ? word(json.since) : "a time unknown",
    process: word(json.process),
  };
}

async function within(milliseconds: number, work: Promise<void> | undefined): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  await Promise.race([work, new Promise((resolve) => timer = setTimeout(resolve, milliseconds))]);
  clearTimeout(timer);
}

/** This push, as the others are to see it. */
async function self(hostsPath: string): Promise<Owner> {
  const uid = Deno.uid();
  const user = Deno.env.get("USER") ?? Deno.env.get("LOGNAME") ?? (uid === 0 ? "root" : `uid-${uid}`);
  return {
    who: `${user}@${Deno.hostname()}`,
    pid: Deno.pid,
    fleet: await Deno.realPath(hostsPath).catch(() => hostsPath),
    since: new Date().toISOString().replace(/\.\d+Z$/, "Z"),
    process: await processName(Deno.pid) ?? "",
  };
}

/** This boot of this kernel, the namespace of ids, and when the process began; undefined where there is none, or no /proc. */
async function processName(pid: number): Promise<string | undefined> {
  try {
    const [boot, namespace, stat] = await Promise.all([
      Deno.readTextFile("/proc/sys/kernel/random/boot_id"),
      Deno.readLink("/proc/self/ns/pid"),
      Deno.readTextFile(`/proc/${pid}/stat`),
    ]);
    // Field 22, proc(5).
    const started = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    return `${boot.trim()} ${namespace} ${started}`;
  } catch {
    return undefined;
  }
}

/** Whether the owner was a process of this very machine and is no more. */
async function hasEnded({ pid, process }: Owner): Promise<boolean> {
  const here = (name: string | undefined) => name?.split(" ").slice(0, 2).join(" ");
  const own = await processName(Deno.pid);
  return own !== undefined && here(process) === here(own) && await processName(pid) !== process;
}

function describe({ who, pid, fleet, since }: Owner): string {
  return `${who} (process ${pid}, ${fleet}), since ${since}`;
}

/** Nothing is changed before every host is locked; if one is not to be had, the push has not begun. */
export const LOCK: Phase = {
  name: "lock",
  title: "lock against other pushes",
  // Whoever lacks these is refused anyway, for a better reason than that there is no lock.
  concerns: ({ facts }) => facts?.root === true && facts.systemd,
  before: async (push) => {
    push.lock = { id: crypto.randomUUID(), who: JSON.stringify(await self(push.options.hostsPath)) };
  },
  host: lockInTurn,
  after: refuseIfHeld,
};

/** The first host decides: of two pushes over the same hosts one gets all of them, not each some. */
async function lockInTurn(run: HostRun, push: PushRun): Promise<void> {
  const { first } = push.lock!;
  if (first) {
    await first;
    if (push.hosts.some(({ heldBy }) => heldBy !== undefined)) return;
    return await lockHost(run, push);
  }
  const { promise, resolve } = Promise.withResolvers<void>();
  push.lock!.first = promise;
  await lockHost(run, push).finally(resolve);
}

async function lockHost(run: HostRun, push: PushRun): Promise<void> {
  const lock = new HostLock(run.ssh, {
    push: push.lock!.id,
    who: push.lock!.who,
    phase: () => push.phase.name,
    onLost: () => loseLock(run, push),
  });
  const answer = await takeInTurn(lock, {
    isOver: () => push.options.signal?.aborted ?? false,
    onWait: (text) => push.progress.step(run.host.hostname, text),
  });
  if (!answer.taken) return void (run.heldBy = describe(answer.other!.owner));
  run.lock = lock;
  lock.keep();
  // What looked like an interrupted installation may have been one under way.
  if (run.facts?.state?.status === "installing") run.facts = await look(run.host.hostname, run.ssh);
  if (answer.other) tellTakeover(run, push, answer.other);
}

/** Waits for a lock whose owner may have died; one that is held by somebody who lives is not to be had. */
async function takeInTurn(
  lock: HostLock,
  { isOver, onWait }: { readonly isOver: () => boolean; readonly onWait: (text: string) => void },
): Promise<Answer> {
  let dead = "";
  const deadline = Date.now() + TAKEOVER_TIMEOUT;
  while (true) {
    const answer = await lock.take(dead);
    if (answer.taken) return answer;
    const { owner, holder, silent, lease } = answer.other!;
    if (await hasEnded(owner)) dead = holder;
    else if (silent < SILENCE || isOver() || Date.now() > deadline) return answer;
    else {
      onWait(`wait up to ${lease - silent} s for the push of ${describe(owner)}, silent for ${silent} s`);
      await pause(REST);
    }
  }
}

function takeoverNote({ owner }: Seen): string {
  return `took over the lock of a push that has died: ${describe(owner)}`;
}

function tellTakeover(run: HostRun, push: PushRun, other: Seen): void {
  const note = takeoverNote(other);
  run.notes.push(note);
  push.progress.note(note, run.host.hostname);
}

/** Another push took this one for dead, and works on the host: this one keeps its hands off it. */
function loseLock(run: HostRun, push: PushRun): void {
  if (run.failure) return;
  run.failure = {
    phase: push.phase.name,
    message:
      `${run.host.hostname}: Cannot go on: another push has taken the host over, because this one was silent for ` +
      `more than ${LEASE} s; expected one push at a time. Push again when the other has ended`,
  };
  push.progress.failed(run.host.hostname, push.phase, run.failure.message);
}

function refuseIfHeld(push: PushRun): void {
  const held = push.hosts.filter(({ heldBy }) => heldBy !== undefined);
  if (held.length === 0) return;
  const owners = [...new Set(held.map(({ heldBy }) => heldBy))].join("; ");
  const names = held.map(({ host }) => host.hostname);
  const without = names.map((name) => `!${name}`).join(",");
  throw new LockedError(
    `Cannot push: another push is under way: ${owners}; found on ${names.join(", ")}; expected none. ` +
      `Nothing was touched; push again when it has ended, or leave out who says so: --limit '${without}'`,
  );
}

/** Gives back what was taken. */
export async function releaseLocks(push: PushRun): Promise<void> {
  await Promise.all(push.hosts.map(({ lock }) => lock?.release()));
}

/** What is done to this host without a deployer. */
export interface LocalWork {
  /** For whoever is refused meanwhile: the fleet's file, or what is done. */
  readonly fleet: string;
  /** As in "Cannot install". */
  readonly verb: string;
  readonly report: (text: string) => void;
}

/** Does it under this host's lock, so that no push and no other such work comes in between. */
export async function lockedHere<T>(
  { fleet, verb, report }: LocalWork,
  work: (lock: HostLock) => Promise<T>,
): Promise<T> {
  const lost = Promise.withResolvers<never>();
  lost.promise.catch(() => {});
  const lock = new HostLock(HERE, {
    push: crypto.randomUUID(),
    who: JSON.stringify(await self(fleet)),
    phase: () => verb,
    onLost: () =>
      lost.reject(new HostError(`Cannot ${verb}: a push has taken the host over; expected one at a time`)),
  });
  const answer = await takeInTurn(lock, { isOver: () => false, onWait: report });
  if (!answer.taken) {
    throw new LockedError(
      `Cannot ${verb}: a push is under way: ${describe(answer.other!.owner)}; expected none. ` +
        "Nothing was touched; try again when it has ended",
    );
  }
  if (answer.other) report(takeoverNote(answer.other));
  lock.keep();
  try {
    return await Promise.race([work(lock), lost.promise]);
  } finally {
    await lock.release();
  }
}
