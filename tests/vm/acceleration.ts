/**
 * Whether this machine can really run a virtual machine by KVM. Starts `qemu-system-x86_64`, remembers the answer until the next boot.
 */
import { run } from "../lab/process.ts";
import { waitFor } from "../lab/wait.ts";

/** How instructions are run: by the processor itself, or by emulation. */
export type Acceleration = "kvm" | "tcg";

/** What a kernel says when it has come as far as its first program. */
const STARTED = "Run /init as init process";
const DEADLINE_MS = 15_000;

/** The kernel that a trial starts. */
export interface TrialKernel {
  readonly kernel: string;
  readonly initrd: string;
}

let asked: Promise<Acceleration> | undefined;

/** `MOBULA_VM_ACCEL` if it is set, else what a guest's first seconds show: a device file alone proves nothing. */
export function acceleration(trial: TrialKernel): Promise<Acceleration> {
  return asked ??= decide(trial);
}

async function decide(trial: TrialKernel): Promise<Acceleration> {
  const wish = Deno.env.get("MOBULA_VM_ACCEL");
  if (wish === "kvm" || wish === "tcg") return wish;
  if (wish !== undefined) {
    throw new Error(`Cannot use MOBULA_VM_ACCEL="${wish}"; expected kvm or tcg`);
  }
  const remembered = `/run/mobula-vm-${Deno.readTextFileSync("/proc/sys/kernel/random/boot_id").trim()}`;
  const before = await Deno.readTextFile(remembered).catch(() => undefined);
  if (before === "kvm" || before === "tcg") return before;
  const answer = await startsGuest(trial) ? "kvm" : "tcg";
  await Deno.writeTextFile(remembered, answer);
  return answer;
}

async function startsGuest({ kernel, initrd }: TrialKernel): Promise<boolean> {
  if (!await Deno.stat("/dev/kvm").then(() => true, () => false)) return false;
  const console = await Deno.makeTempFile({ prefix: "mobula-vm-" });
  const ended = new AbortController();
  const trial = run([
    "timeout",
    "--signal=KILL",
    String(DEADLINE_MS / 1000 + 5),
    "qemu-system-x86_64",
    ...["-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none"],
    ...["-serial", `file:${console}`, "-kernel", kernel, "-initrd", initrd],
    ...["-append", "console=ttyS0 panic=-1", "-no-reboot", "-pidfile", `${console}.pid`],
  ]).then(() => ended.abort());
  const started = await waitFor(
    "a guest",
    () => ended.signal.aborted ? "no" : Deno.readTextFileSync(console).includes(STARTED) ? "yes" : undefined,
    { deadlineMs: DEADLINE_MS, intervalMs: 100 },
  ).catch(() => "no");
  const pid = Number(await Deno.readTextFile(`${console}.pid`).catch(() => "0"));
  if (pid > 0 && !ended.signal.aborted) Deno.kill(pid, "SIGKILL");
  await trial;
  for (const path of [console, `${console}.pid`]) await Deno.remove(path).catch(() => {});
  return started === "yes";
}
