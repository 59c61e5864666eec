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
  serving = { types = ["t3.large", "t3a.large"], min = 2, max = 3, capacity = "SPOT" }
  jobs    = { types = ["r7i.large", "r6i.large"], min = 1, max = 3, capacity = "SPOT" }
}
