// Package certs makes and reads the folder of `covey cert init`: a certificate
// authority, a certificate and a key for each node, and the roles that keys have
// at the NATS servers.
//
// What goes where: ca.key stays where the folder was made. A node gets ca.pem,
// users.json, and its own NAME.pem, NAME.key and NAME.nk; a submitter ca.pem and
// submit.nk; an observer ca.pem and observe.nk; a
// program that serves members ca.pem and member.nk.
package certs
