# Sends the messages that stdin names (file, sender, recipients; tabs between) through the door that the environment names.
use strict;
use warnings;
use Net::SMTP;

my ($tls, $ca) = @ENV{qw(DOOR_TLS DOOR_CA)};
my @verified = (SSL_verify_mode => 1, SSL_ca_file => $ca);
my $smtp = Net::SMTP->new("localhost", Port => $ENV{DOOR_PORT}, Hello => "client.test", Timeout => 20,
    SSL => $tls eq "implicit", @verified) or die "no connection: $@";
if ($tls eq "starttls") { $smtp->starttls(@verified) or die "no TLS: " . $smtp->message }
if ($ENV{DOOR_USER}) { $smtp->auth(@ENV{qw(DOOR_USER DOOR_PASSWORD)}) or die "no login: " . $smtp->message }
while (my $line = <STDIN>) {
    chomp $line;
    my ($file, $from, $to) = split /\t/, $line;
    open my $opened, "<:raw", $file or die $!;
    my $content = do { local $/; <$opened> };
    my @eight = $content =~ /[\x80-\xff]/ ? (Bits => 8) : ();
    $smtp->mail($from, @eight) or die "MAIL: " . $smtp->message;
    $smtp->recipient(split /,/, $to) or die "RCPT: " . $smtp->message;
    $smtp->data or die "DATA: " . $smtp->message;
    $smtp->datasend($content) or die "content: " . $smtp->message;
    $smtp->dataend or die "end: " . $smtp->message;
}
$smtp->quit;
