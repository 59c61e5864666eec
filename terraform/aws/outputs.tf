output "cluster" {
  description = "Name of the EKS cluster."
  value       = aws_eks_cluster.this.name
}

output "bootstrap_brokers" {
  description = "kafka.bootstrap of the chart."
  value       = aws_msk_cluster.this.bootstrap_brokers_sasl_scram
}

output "redis_url" {
  description = "redis.url of the chart."
  value       = "rediss://${aws_elasticache_replication_group.this.primary_endpoint_address}:6379"
}

output "postgres_address" {
  description = "postgres.address of the chart."
  value       = aws_db_instance.this.endpoint
}

output "bucket" {
  description = "Holds tables and checkpoints."
  value       = aws_s3_bucket.this.bucket
}

output "values" {
  description = "What the chart takes from here: terraform output -raw values > site.yaml"
  value = yamlencode({
    kafka    = { bootstrap = aws_msk_cluster.this.bootstrap_brokers_sasl_scram }
    redis    = { url = "rediss://${aws_elasticache_replication_group.this.primary_endpoint_address}:6379" }
    postgres = { address = aws_db_instance.this.endpoint }
    iceberg  = { warehouse = "s3://${aws_s3_bucket.this.bucket}/iceberg" }
    storage  = { flink = "s3://${aws_s3_bucket.this.bucket}/flink", region = var.region }
    serviceAccounts = {
      annotations = { "eks.amazonaws.com/role-arn" = aws_iam_role.platform.arn }
    }
    networkPolicies = { egress = [var.cidr] }
    flink           = { nodeSelector = { "headwater.io/nodes" = "jobs" } }
  })
}

output "secrets" {
  description = "Which secrets of AWS the cluster's secrets are made of."
  value = {
    headwater-postgres = aws_db_instance.this.master_user_secret[0].secret_arn
    headwater          = aws_secretsmanager_secret.kafka.arn
  }
}
