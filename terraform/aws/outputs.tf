output "cluster" {
  description = "Name of the EKS cluster."
  value       = module.cluster.cluster_name
}

output "bootstrap_brokers" {
  description = "kafka.bootstrap of the chart."
  value       = module.kafka.bootstrap_brokers_sasl_scram
}

output "redis_url" {
  description = "redis.url of the chart."
  value       = "rediss://${module.redis.replication_group_primary_endpoint_address}:6379"
}

output "postgres_address" {
  description = "postgres.address of the chart."
  value       = module.postgres.db_instance_endpoint
}

output "bucket" {
  description = "Holds tables and checkpoints."
  value       = module.storage.s3_bucket_id
}

output "values" {
  description = "What the chart takes from here: terraform output -raw values > site.yaml"
  value = yamlencode({
    kafka    = { bootstrap = module.kafka.bootstrap_brokers_sasl_scram }
    redis    = { url = "rediss://${module.redis.replication_group_primary_endpoint_address}:6379" }
    postgres = { address = module.postgres.db_instance_endpoint }
    iceberg  = { warehouse = "s3://${module.storage.s3_bucket_id}/iceberg" }
    storage  = { flink = "s3://${module.storage.s3_bucket_id}/flink", region = var.region }
    serviceAccounts = {
      annotations = { "eks.amazonaws.com/role-arn" = module.platform_role.iam_role_arn }
    }
    networkPolicies = { egress = [var.cidr] }
    flink           = { nodeSelector = { "headwater.io/nodes" = "jobs" } }
  })
}

output "secrets" {
  description = "Which secrets of AWS the cluster's secrets are made of."
  value = {
    headwater-postgres = module.postgres.db_instance_master_user_secret_arn
    headwater          = aws_secretsmanager_secret.kafka.arn
  }
}
