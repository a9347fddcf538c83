#!/bin/sh
# Makes an authority and a certificate for 127.0.0.1, good from 2020 to 2120. Test data: the key is no secret.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/CN=knarr test authority" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" \
    -keyout "$work/ca.key" -out ca.pem
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=127.0.0.1" -keyout server.key \
    -out "$work/server.csr"
printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' > "$work/extensions"
touch "$work/index"
echo 01 > "$work/serial"
cat > "$work/config" <<END
[ca]
default_ca = own
[own]
database = $work/index
serial = $work/serial
new_certs_dir = $work
policy = any
[any]
commonName = supplied
END
openssl ca -batch -notext -config "$work/config" -md sha256 -cert ca.pem -keyfile "$work/ca.key" \
    -startdate 20200101000000Z -enddate 21200101000000Z -extfile "$work/extensions" -in "$work/server.csr" \
    -out server.pem
rm -r "$work"
