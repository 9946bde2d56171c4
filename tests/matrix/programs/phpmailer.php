<?php
// Sends the messages that stdin names (file, sender, recipients; tabs between) through the door that the environment names.
require '/usr/share/php/libphp-phpmailer/src/Exception.php';
require '/usr/share/php/libphp-phpmailer/src/SMTP.php';

function or_die(PHPMailer\PHPMailer\SMTP $smtp, bool $done): void
{
    if (!$done) {
        fwrite(STDERR, json_encode($smtp->getError()) . "\n");
        exit(1);
    }
}

$tls = getenv('DOOR_TLS');
$smtp = new PHPMailer\PHPMailer\SMTP();
$verified = ['ssl' => ['cafile' => getenv('DOOR_CA')]];
$scheme = $tls === 'implicit' ? 'ssl://' : '';
$context = ['ssl' => $verified['ssl'] + ['peer_name' => 'localhost']];
or_die($smtp, $smtp->connect("{$scheme}localhost", (int) getenv('DOOR_PORT'), 20, $context));
or_die($smtp, $smtp->hello('client.test'));
if ($tls === 'starttls') {
    or_die($smtp, $smtp->startTLS());
    or_die($smtp, $smtp->hello('client.test'));
}
if (getenv('DOOR_USER')) {
    or_die($smtp, $smtp->authenticate(getenv('DOOR_USER'), getenv('DOOR_PASSWORD')));
}
while (($line = fgets(STDIN)) !== false) {
    [$file, $from, $to] = explode("\t", rtrim($line, "\n"));
    or_die($smtp, $smtp->mail($from));
    foreach (explode(',', $to) as $recipient) {
        or_die($smtp, $smtp->recipient($recipient));
    }
    // data() ends every line, also what follows the last line end.
    or_die($smtp, $smtp->data(preg_replace('/(\r\n|\r|\n)\z/', '', file_get_contents($file))));
}
$smtp->quit();
