/**
 * Counts the programs that run on a lab host, by the kernel's process accounting (acct(2)), which works per PID namespace. Turns the
 * accounting of the host on and off; its file lies in the host's `/run`.
 */
import type { Lab } from "./lab.ts";
import { ask } from "./snapshot.ts";

/** How often a program ran. */
export interface ProgramCount {
  /** The first 15 characters of the program's file name, or of what the process calls itself (comm). */
  readonly name: string;
  readonly count: number;
}

const FILE = "/run/programs.acct";

/** What the processes that turn it on and off call themselves: the kernel writes a record of each of them, too. */
const OWN_NAME = "counts-programs";

/** acct(2) has this number on x86-64. The file is made anew. */
const TURN_ON = `$0 = "${OWN_NAME}"; open my $file, ">", $ARGV[0] or die "$ARGV[0]: $!\\n"; close $file;
syscall(163, $ARGV[0]) == 0 or die "acct: $!\\n"`;

/** Prints of each record (struct acct_v3 of linux/acct.h: 64 bytes) `<ac_flag> <ac_version> <ac_comm>`. */
const TURN_OFF = `$0 = "${OWN_NAME}"; syscall(163, undef) == 0 or die "acct: $!\\n";
open my $file, "<", $ARGV[0] or die "$ARGV[0]: $!\\n"; binmode $file; unlink $ARGV[0];
while (read($file, my $record, 64) == 64) { printf "%d %d %s\\n", unpack("CCx46Z16", $record) }`;

/** Starts to count the host's programs; what was counted so far is forgotten. */
export async function startCounting(lab: Lab, host: string): Promise<void> {
  await ask(lab, host, ["perl", "-e", TURN_ON, FILE]);
}

/**
 * Stops counting and returns the programs by name, most frequent first. Counted is each process that has ended since `startCounting` and
 * has executed a program; a process that still runs is not counted, nor is a subshell that has only forked.
 */
export async function stopCounting(lab: Lab, host: string): Promise<readonly ProgramCount[]> {
  return countPrograms(await ask(lab, host, ["perl", "-e", TURN_OFF, FILE]));
}

/** The number of all programs in a list. */
export function programTotal(counts: readonly ProgramCount[]): number {
  return counts.reduce((sum, { count }) => sum + count, 0);
}

/** ac_flag, AFORK: has forked, but not executed a program. */
const FORKED = 0x01;
/** The low half of ac_version: struct acct_v3. */
const VERSION = 3;

function countPrograms(records: string): ProgramCount[] {
  const counts = new Map<string, number>();
  for (const record of records.split("\n").slice(0, -1)) {
    const [, flag, version, name = ""] = /^(\d+) (\d+) (.*)$/.exec(record) ?? [];
    if ((Number(version) & 0x0f) !== VERSION) {
      throw new Error(`Cannot count programs: found record "${record}"; expected version ${VERSION}`);
    }
    if ((Number(flag) & FORKED) === 0 && name !== OWN_NAME) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => ({ name, count }))
    .sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1));
}
