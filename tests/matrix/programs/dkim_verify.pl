# perl dkim_verify.pl KEYS MESSAGE…: "MESSAGE SELECTOR RESULT" for each signature, by Mail::DKIM with keys from a file.
use strict;
use warnings;
use Mail::DKIM::DNS;
use Mail::DKIM::Verifier;
use Net::DNS;

my %records;
open(my $keys, '<', shift @ARGV) or die $!;
while (my $line = <$keys>) {
    chomp $line;
    my ($name, $text) = split / /, $line, 2;
    $records{$name} = $text;
}
close $keys;

no warnings 'redefine';
*Mail::DKIM::DNS::query_async = sub {
    my ($name, $type, %arguments) = @_;
    my $text = $records{$name};
    my @found = defined $text ? (Net::DNS::RR->new(name => $name, type => 'TXT', txtdata => [$text =~ /(.{1,255})/gs])) : ();
    return sub { $arguments{Callbacks}{Success}->(@found) };
};

for my $file (@ARGV) {
    open(my $message, '<:raw', $file) or die $!;
    my $octets = do { local $/; <$message> };
    close $message;
    my $verifier = Mail::DKIM::Verifier->new;
    $verifier->PRINT($octets);
    $verifier->CLOSE;
    print join(' ', $file, $_->selector, $_->result), "\n" for $verifier->signatures;
}
