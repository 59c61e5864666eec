name   = "headwater-staging"
region = "eu-west-1"

# Small, and may be removed. What Kafka acknowledges is on one of two brokers at least, so that the
# other one may restart.
zones        = 2
nat_per_zone = false
protect      = false
kafka        = { type = "kafka.t3.small", storage = 100 }
redis        = { type = "cache.t4g.small", replicas = 0 }
postgres     = { type = "db.t4g.micro", storage = 20 }
nodes = {
  serving = { types = ["t4g.large"], min = 2, max = 3, capacity = "SPOT" }
  jobs    = { types = ["r7g.large", "r6g.large"], min = 1, max = 3, capacity = "SPOT" }
}
