"""The gRPC protocol: features.proto, and what protoc makes of it (`make protocol`)."""
