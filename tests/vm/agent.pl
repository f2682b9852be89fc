# Runs commands for the machine that the virtual machine runs on, one at a time on each virtio-serial port `lab.N`, so that they need
# no network. Frames in both directions: one letter, length as four bytes (big endian), content. In: C command, I standard input,
# E its end. Out: O standard output, X standard error, R exit code. A line that begins with a NUL byte begins a conversation.
use strict;
use warnings;
use POSIX ();

my @ports;
$SIG{PIPE} = 'IGNORE';
for my $number (0 .. $ARGV[0] - 1) {
  my $pid = fork();
  if (!$pid) { serve("/dev/virtio-ports/lab.$number"); POSIX::_exit(0) }
  push @ports, $pid;
}
$SIG{TERM} = sub { kill 'TERM', @ports };
announce();
1 while wait() > 0;

# The machine below sees by this that the system has started anew.
sub announce {
  open(my $in, '<', '/proc/sys/kernel/random/boot_id') or return;
  my $port = open_port('/dev/virtio-ports/lab.boot');
  syswrite($port, <$in>);
}

sub open_port {
  my ($path) = @_;
  my $port;
  select(undef, undef, undef, 0.1) until sysopen($port, $path, POSIX::O_RDWR());
  return $port;
}

my ($port, $buffer, $nonce, $child, $owed);

sub serve {
  $port = open_port($_[0]);
  $buffer = '';
  my $self = $$;
  $SIG{TERM} = sub { send_frame('R', pack('N', 143)) if $owed && $$ == $self; POSIX::_exit(0) };
  send_frame('B', '');
  while (1) {
    greet();
    my $command = read_frame();
    next if !$command || $command->[0] ne 'C';
    # Whoever is stopped meanwhile still owes an outcome; one too many is skipped by the next greeting.
    $owed = 1;
    my $code = run_command($command->[1]);
    send_frame('R', pack('N', $code)) if defined $code;
    $owed = 0;
  }
}

# Waits for a line "\0LAB nonce" and answers "\0GO nonce"; whatever an earlier conversation left behind is skipped.
sub greet {
  $nonce = undef;
  while (!defined $nonce) {
    if ($buffer =~ s/^.*?\0LAB ([0-9a-f]+)\n//s) { $nonce = $1; last }
    $buffer = '' if $buffer !~ /\0/;
    fill() or select(undef, undef, undef, 0.1);
  }
  write_all("\0GO $nonce\n");
}

# False when nobody is there any more.
sub fill {
  my $count = sysread($port, $buffer, 65536, length $buffer);
  return $count;
}

sub write_all {
  my ($text) = @_;
  while (length $text) {
    my $count = syswrite($port, $text);
    return if !defined $count;
    substr($text, 0, $count, '');
  }
}

sub send_frame { write_all($_[0] . pack('N', length $_[1]) . $_[1]) }

# The next whole frame in the buffer; an empty list when there is none yet; 'lost' when another conversation has begun.
sub take_frame {
  while ($buffer =~ /^\0/) {
    my $repeated = "\0LAB $nonce\n";
    if (length $buffer < length $repeated) { return }
    return ['lost', ''] if substr($buffer, 0, length $repeated) ne $repeated;
    substr($buffer, 0, length $repeated, '');
  }
  return if length $buffer < 5;
  my ($kind, $length) = unpack('aN', $buffer);
  return if length $buffer < 5 + $length;
  my $content = substr($buffer, 5, $length);
  substr($buffer, 0, 5 + $length, '');
  return [$kind, $content];
}

sub read_frame {
  while (1) {
    my $frame = take_frame();
    return $frame if $frame;
    fill() or return;
  }
}

# The command: count of environment entries, the entries, the arguments, each ended by a NUL byte.
sub run_command {
  my ($count, @words) = split(/\0/, $_[0], -1);
  pop @words;
  my @environment = splice(@words, 0, $count);
  pipe(my $in_read, my $in_write);
  pipe(my $out_read, my $out_write);
  pipe(my $err_read, my $err_write);
  $child = fork();
  if (!$child) {
    $SIG{TERM} = $SIG{PIPE} = 'DEFAULT';
    POSIX::setsid();
    POSIX::dup2(fileno($in_read), 0);
    POSIX::dup2(fileno($out_write), 1);
    POSIX::dup2(fileno($err_write), 2);
    POSIX::close($_) for 3 .. 20;
    %ENV = map { split(/=/, $_, 2) } @environment;
    chdir('/root');
    no warnings 'exec';
    exec { $words[0] } @words;
    syswrite(STDERR, "$words[0]: $!\n");
    POSIX::_exit(127);
  }
  close($_) for ($in_read, $out_write, $err_write);
  my $result = attend($in_write, { O => $out_read, X => $err_read });
  kill('KILL', -$child) if !defined $result;
  waitpid($child, 0) if !defined $result;
  $child = undef;
  return $result;
}

# Carries the streams until the command has ended; nothing when the other side has gone.
sub attend {
  my ($in, $outputs) = @_;
  my ($code, $input, $input_ended) = (undef, '', 0);
  my $quiet = 0;
  while (1) {
    while (my $frame = take_frame()) {
      return if $frame->[0] eq 'lost';
      $input .= $frame->[1] if $frame->[0] eq 'I';
      $input_ended = 1 if $frame->[0] eq 'E';
    }
    if ($in && $input eq '' && $input_ended) { close($in); $in = undef }
    if (!defined $code && waitpid($child, POSIX::WNOHANG()) > 0) {
      $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    }
    # What the command has left running may hold its output open for ever.
    return $code if defined $code && (!%$outputs || $quiet >= 5);
    my ($readable, $writable) = ('', '');
    vec($readable, fileno($port), 1) = 1;
    vec($readable, fileno($_), 1) = 1 for values %$outputs;
    vec($writable, fileno($in), 1) = 1 if $in && $input ne '';
    my $ready = select($readable, $writable, undef, defined $code ? 0.05 : 0.2);
    $quiet++ if defined $code && $ready <= 0;
    next if $ready <= 0;
    if (vec($readable, fileno($port), 1)) { fill() or return }
    if ($in && vec($writable, fileno($in), 1)) {
      my $written = syswrite($in, $input, 4096);
      if (defined $written) { substr($input, 0, $written, '') } else { close($in); $in = undef; $input = '' }
    }
    for my $kind (keys %$outputs) {
      next if !vec($readable, fileno($outputs->{$kind}), 1);
      $quiet = 0;
      if (sysread($outputs->{$kind}, my $text, 32768)) { send_frame($kind, $text) }
      else { close(delete $outputs->{$kind}) }
    }
  }
}
