//! A Server-Sent Events hub: the server binary and the embeddable library
